"""Learning-rate schedules by name, against their closed forms and torch's."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.training import schedules
from l2keras_experiments.training.optimizers import build_optimizer, build_schedule
from l2keras_experiments.training.scheduling import NAMES
from tests.support import factorial
from tests.support.configs import optimizer

PEAK, STEPS = 0.5, 40
CONSTANT = ("constant", 0.0)  # a float, no schedule


def rates(schedule: Any, steps: Any = range(STEPS)) -> list[float]:
    return [float(schedule(step)) for step in steps]


def built(name: str, num_steps: int = STEPS, warmup_fraction: float = 0.0, **arguments: Any) -> Any:
    """The schedule of a config that names it."""
    config = optimizer(
        learning_rate=PEAK,
        schedule={"name": name, **arguments},
        warmup_fraction=warmup_fraction,
    )
    return build_schedule(config, num_steps)


def cosine(done: float, final: float) -> float:
    return PEAK * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)


CLOSED: list[tuple[str, dict[str, Any], Callable[[float], float]]] = [
    ("cosine", {}, lambda t: cosine(t, 0.0)),
    ("cosine", {"final": 0.25}, lambda t: cosine(t, 0.25)),
    ("linear", {}, lambda t: PEAK * (1 - t)),
    ("linear", {"final": 0.25}, lambda t: PEAK * (1 - 0.75 * t)),
    ("exponential", {}, lambda t: PEAK * 0.01**t),
    ("exponential", {"final": 0.25}, lambda t: PEAK * 0.25**t),
]


@pytest.mark.parametrize(("name", "arguments", "form"), CLOSED)
def test_closed_forms(name: str, arguments: dict[str, Any], form: Callable[[float], float]) -> None:
    """At every step s of T, with t = s/T; after T the last rate holds or goes on falling."""
    found = rates(built(name, **arguments), range(STEPS + 1))
    assert found == pytest.approx([form(s / STEPS) for s in range(STEPS + 1)], rel=1e-5, abs=1e-7)


def test_piecewise_falls_at_the_milestones() -> None:
    """By default to a tenth after half of the steps, to a hundredth after three quarters."""
    assert rates(built("piecewise"), [0, 20, 21, 30, 31, 39]) == pytest.approx(
        [0.5, 0.5, 0.05, 0.05, 0.005, 0.005]
    )
    own = built("piecewise", milestones=[0.1], factor=0.5)
    assert rates(own, [4, 5, 39]) == pytest.approx([0.5, 0.25, 0.25])


def torch_rates(total: int, **options: Any) -> list[float]:
    import torch

    weight = torch.nn.Parameter(torch.zeros(1))
    stepped = torch.optim.SGD([weight], lr=PEAK)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        stepped, max_lr=PEAK, total_steps=total, cycle_momentum=False, **options
    )
    found = []
    for step in range(total):
        found.append(float(stepped.param_groups[0]["lr"]))
        stepped.step()
        if step < total - 1:
            cycle.step()
    return found


@pytest.mark.parametrize("total", factorial.sample([4, 7, 10, 33, 40, 101], 3))
def test_one_cycle_is_that_of_torch(total: int) -> None:
    """With its defaults, also where the peak lies between two steps."""
    assert rates(built("one_cycle", total), range(total)) == pytest.approx(
        torch_rates(total), rel=1e-5, abs=1e-8
    )


def test_one_cycle_takes_the_arguments_of_torch() -> None:
    """div_factor=10 is start=0.1; final_div_factor=100 of that is final=0.001."""
    own = built("one_cycle", peak_at=0.5, start=0.1, final=0.001)
    expected = torch_rates(STEPS, pct_start=0.5, div_factor=10, final_div_factor=100)
    assert rates(own) == pytest.approx(expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_short_runs_have_a_rate(total: int) -> None:
    """In a run of a step or two every schedule is finite, positive and at most the peak."""
    for name in NAMES:
        schedule = built(name, total)
        found = rates(schedule, range(total)) if callable(schedule) else [schedule]
        assert all(0 < rate <= PEAK * (1 + 1e-6) for rate in found), name


@pytest.mark.parametrize("name", NAMES)
def test_a_warm_up_stands_in_front_of_each(name: str) -> None:
    """Ten of 40 steps climb from zero; then the schedule of 30 steps begins."""
    schedule = built(name, warmup_fraction=0.25)
    assert rates(schedule, range(10)) == pytest.approx([PEAK * s / 10 for s in range(10)])
    after = built(name, num_steps=30)
    expected = rates(after, range(30)) if callable(after) else [after] * 30
    assert rates(schedule, range(10, 40)) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(
    ("name", "warmup_fraction"),
    factorial.sample(
        [
            (name, fraction)
            for name in NAMES
            for fraction in (0.0, 0.25)
            if (name, fraction) != CONSTANT
        ],
        4,
    ),
)
def test_schedules_survive_saving(name: str, warmup_fraction: float, tmp_path: Path) -> None:
    """A compiled model that is saved and loaded goes on at the same rates."""
    config = optimizer(
        "adam", learning_rate=PEAK, schedule={"name": name}, warmup_fraction=warmup_fraction
    )
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(build_optimizer(config, STEPS), "mse", run_eagerly=True)
    for _ in range(3):
        model.train_on_batch(np.ones((1, 1)), np.ones((1, 1)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert int(loaded.optimizer.iterations) == 3
    assert rates(loaded.optimizer._learning_rate) == rates(model.optimizer._learning_rate)
    assert float(loaded.optimizer.learning_rate) == float(model.optimizer.learning_rate)


def own(learning_rate: float, num_steps: int, power: float = 1.0) -> Any:
    return keras.optimizers.schedules.PolynomialDecay(learning_rate, num_steps, 0.0, power)


def test_a_schedule_of_ones_own() -> None:
    """It is given the peak and the steps that the warm-up leaves."""
    schedule = {"_target_": f"{__name__}.own", "power": 2.0}
    config = optimizer(learning_rate=PEAK, schedule=schedule, warmup_fraction=0.25)
    found = rates(build_schedule(config, STEPS), [5, 10, 25, 40])
    assert found == pytest.approx([PEAK / 2, PEAK, PEAK / 4, 0.0])


def test_a_schedule_of_keras() -> None:
    """Its own names of the peak and the steps are known."""
    config = optimizer(
        learning_rate=PEAK,
        schedule={"_target_": "keras.optimizers.schedules.CosineDecay", "alpha": 0.5},
    )
    assert rates(build_schedule(config, STEPS), [0, 20, 40]) == pytest.approx([0.5, 0.375, 0.25])
    config.schedule = {"_target_": "keras.optimizers.schedules.CosineDecay", "alhpa": 0.5}
    with pytest.raises(ConfigError, match=r"schedule\.alhpa=0\.5\. Did you mean alpha\?"):
        build_optimizer(config, STEPS)


def test_the_arguments_of_the_config_come_first() -> None:
    """The length that the config gives, in the place of the run's: 0 after 10 of 40 steps."""
    target = "keras.optimizers.schedules.CosineDecay"
    schedule = {"_target_": target, "decay_steps": 10}
    found = build_schedule(optimizer(learning_rate=PEAK, schedule=schedule), STEPS)
    assert rates(found, (0, 5, 10)) == pytest.approx([PEAK, PEAK / 2, 0.0])


def test_the_rate_holds_behind_a_cycle() -> None:
    cycle = schedules.OneCycle(PEAK, rise=2, fall=2, start=0.5, final=0.25)
    assert rates(cycle, [0, 1, 2, 3, 4, 5, 99]) == pytest.approx(
        [0.25, 0.375, 0.5, 0.3125, 0.125, 0.125, 0.125]
    )


@pytest.mark.parametrize("milestones", [[0.6, 0.3], [0.5, 0.5], [0.0, 0.5], [0.5, 1.0]])
def test_milestones_grow(milestones: list[float]) -> None:
    with pytest.raises(ValueError, match="must grow from above 0 to below 1"):
        schedules.piecewise(PEAK, STEPS, milestones)
