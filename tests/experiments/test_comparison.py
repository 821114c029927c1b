"""Arms, distances and verdicts, on hand-made trajectories."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiments import comparison
from experiments.comparison import Arm
from experiments.schema import CompareConfig, ConfigError, Dtype, MixedPrecision


def config_of(lams: list[float], arms: list[str] | None = None) -> CompareConfig:
    config = CompareConfig()
    config.training.dtype = Dtype.float64
    config.compare.lams = lams
    if arms is not None:
        config.compare.arms = arms
    return config


def test_the_plan_has_the_references_first() -> None:
    """HalfL2 is trained at every lambda and its double, once each, before what it judges."""
    plan = comparison.plan(config_of([0.125, 0.25], ["none", "builtin_l2", "coupled"]))
    assert plan == [
        Arm("none", 0.0),
        Arm("half_l2", 0.125),
        Arm("half_l2", 0.25),
        Arm("half_l2", 0.5),
        Arm("builtin_l2", 0.125),
        Arm("coupled", 0.125),
        Arm("builtin_l2", 0.25),
        Arm("coupled", 0.25),
    ]


def test_doubles_are_trained_for_the_builtin_only() -> None:
    """Without the built-in nothing needs HalfL2 at 2*lambda."""
    plan = comparison.plan(config_of([0.125], ["coupled"]))
    assert plan == [Arm("half_l2", 0.125), Arm("coupled", 0.125)]


def test_the_halved_builtin_is_given_half() -> None:
    """The arm builtin_half hands lambda/2 to the method builtin_l2."""
    arm = Arm("builtin_half", 0.1)
    configured = comparison.configure(config_of([0.1]), arm)
    assert (configured.regularization.name, configured.regularization.lam) == ("builtin_l2", 0.05)
    assert arm.label == "keras L2(0.05), halved"


def test_distances_are_relative_norms() -> None:
    """||W - W_ref|| / ||W_ref|| for each row; inf where training diverged."""
    reference = np.array([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])
    trajectory = np.array([[3.0, 4.0], [0.0, 3.0], [math.nan, 0.0]])
    assert comparison.distances(trajectory, reference).tolist() == [0.0, 0.5, math.inf]


@pytest.mark.parametrize(
    ("name", "distance", "to_doubled", "expected"),
    [
        ("none", 0.5, None, "no regularization"),
        ("half_l2", 0.0, None, "the reference"),
        ("coupled", 0.0, None, "equal to the last bit"),
        ("decoupled", 1e-14, None, "equal to rounding"),
        ("builtin_half", 1e-9, 0.2, "equal to rounding"),
        ("builtin_l2", 0.3, 1e-9, "same as lambda = 0.2: 2x what was asked"),
        ("builtin_l2", 0.3, 0.1, "different, because its gradient is 2*lambda*W"),
        ("decoupled", 1e-6, None, "different, because of more than rounding"),
        ("decoupled", math.inf, None, "different, because of more than rounding"),
    ],
)
def test_verdicts_under_sgd(
    name: str, distance: float, to_doubled: float | None, expected: str
) -> None:
    """The verdict says equal, twice, or different and why."""
    found = comparison.verdict(Arm(name, 0.1), config_of([0.1]), distance, to_doubled)
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("name", "optimizer", "because"),
    [
        ("decoupled", {"name": "adam"}, "Adam divides"),
        ("optimizer_weight_decay", {"name": "adam"}, "Adam divides"),
        ("decoupled", {"momentum": 0.9}, "enters the velocity"),
        ("coupled", {"clipnorm": 1.0}, "clipped with the gradient"),
        ("decoupled", {"global_clipnorm": 1.0}, "clipped with the gradient"),
    ],
)
def test_verdicts_name_the_reason(name: str, optimizer: dict[str, object], because: str) -> None:
    """An arm that parts from HalfL2 is told apart by what the optimizer does."""
    config = config_of([0.1])
    for key, value in optimizer.items():
        setattr(config.optimizer, key, value)
    verdict = comparison.verdict(Arm(name, 0.1), config, 0.3, None)
    assert verdict.startswith("different, because")
    assert because in verdict


def test_tolerance_follows_the_arithmetic() -> None:
    """Half the digits of the arithmetic."""
    config = config_of([0.1])
    assert comparison.tolerance(config) == 2.0**-26.5
    config.training.dtype = Dtype.float32
    assert comparison.tolerance(config) == 2.0**-12
    config.training.mixed_precision = MixedPrecision.bfloat16
    assert comparison.tolerance(config) == 2.0**-4


def test_the_grid_survives_float32() -> None:
    """Each lambda of the grid, and its half and double, is exact in float32, as Keras casts it."""
    grid = comparison.grid(config_of([0.1, 0.05, 0.1]))
    assert grid == pytest.approx([0.05, 0.1])
    assert [float(np.float32(lam)) for lam in grid] == grid


def test_best_ignores_what_diverged() -> None:
    """The best lambda has the highest finite score; without one there is none."""
    assert comparison.best([1.0, 2.0, 3.0], [0.5, 0.7, math.nan]) == (2.0, 0.7)
    assert math.isnan(comparison.best([1.0], [math.nan])[0])


@pytest.mark.parametrize(
    ("lams", "arms", "message"),
    [
        ([0.1], ["l2"], r"`compare\.arms`.*'l2'"),
        ([], ["none"], r"`compare\.lams`"),
        ([0.0], ["none"], "`none` is lambda 0"),
        ([1e-50], ["none"], "that float32 can hold"),
        ([1e50], ["none"], "that float32 can hold"),
    ],
)
def test_impossible_comparisons(lams: list[float], arms: list[str], message: str) -> None:
    """Unknown arms and empty grids raise before anything is trained."""
    with pytest.raises(ConfigError, match=message):
        comparison.check_comparison(config_of(lams, arms))
