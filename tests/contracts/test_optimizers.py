"""Every optimizer of Keras takes decay exactly, or is refused by name with the reason."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import WeightDecay
from l2keras._keras import optimizers
from tests.support.models import BACKEND, dense_model, fit_zeros, kernel, mse, relative_distance
from tests.support.optimizers import ETA, LAM, NOT_DECOUPLED, OPTIMIZERS, build

STEPS = 5


def shrunk_by(optimizer: Any, decay: WeightDecay, **compiling: Any) -> tuple[Any, Any]:
    """The kernel before and after five steps of zero gradients."""
    model = dense_model()
    model.compile(optimizer, mse, **compiling)
    before = kernel(model)
    fit_zeros(model, STEPS, [decay])
    return before, kernel(model)


def test_keras_exports_the_optimizers_that_are_tested() -> None:
    """The optimizers of this Keras are the ones below: a new one fails here until handled."""
    assert OPTIMIZERS == [
        "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion",
        "Muon", "Nadam", "RMSprop", "SGD", "ScheduleFreeAdamW",
    ]  # fmt: skip


def is_affordable(cell: Mapping[str, Any]) -> bool:
    """Whether a run of JAX, which compiles each fit, has time for it."""
    return BACKEND != "jax" or cell.get("coupling") != "independent" or cell["name"] == "Adam"


@pytest.mark.usefixtures("float64")
@pytest.mark.factorial(
    name=sorted(set(OPTIMIZERS) - NOT_DECOUPLED),
    coupling=["decoupled", "independent"],
    affordable=is_affordable,
)
def test_with_zero_gradients_weights_shrink_by_the_product(
    name: str, coupling: str, quick: dict[str, Any]
) -> None:
    """W is multiplied by (1 - eta*lam)**5, or (1 - lam)**5, and by nothing else."""
    factor = 1 - ETA * LAM if coupling == "decoupled" else 1 - LAM
    before, after = shrunk_by(build(name), WeightDecay(LAM, coupling=coupling), **quick)
    assert relative_distance(after, before * factor**STEPS) < 1e-12


@pytest.mark.parametrize("coupling", ["decoupled", "independent"])
@pytest.mark.parametrize("name", sorted(NOT_DECOUPLED))
def test_optimizers_that_do_not_step_from_w_are_refused(name: str, coupling: str) -> None:
    """An optimizer that would undo the scaling is refused by name, with the reason."""
    model = dense_model()
    model.compile(build(name), mse)
    with pytest.raises(ValueError, match=rf"`{name}` cannot take coupling.*: .*Received.*HalfL2"):
        fit_zeros(model, 1, [WeightDecay(LAM, coupling=coupling)])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_coupled_is_the_penalty_for_every_optimizer(name: str, quick: dict[str, Any]) -> None:
    """With zero data gradients coupled decay is the step that HalfL2 takes, bit for bit."""
    from l2keras import HalfL2

    _, decayed = shrunk_by(build(name), WeightDecay(LAM, coupling="coupled"), **quick)
    model = dense_model(regularizer=HalfL2(LAM))
    before = kernel(model)
    model.compile(build(name), mse, **quick)
    fit_zeros(model, STEPS)
    assert relative_distance(decayed, kernel(model)) < 1e-12
    assert relative_distance(decayed, before) > 1e-7


@pytest.mark.parametrize(
    ("make", "attribute", "remedy"),
    [
        (lambda: keras.optimizers.AdamW(), "weight_decay=0.004", "keras.optimizers.Adam instead"),
        (lambda: keras.optimizers.SGD(weight_decay=0.1), "weight_decay=0.1", "weight_decay=None"),
        (lambda: keras.optimizers.Muon(), "weight_decay=0.004", "weight_decay=None"),
        (
            lambda: keras.optimizers.Muon(weight_decay=None),
            "adam_weight_decay=0.004",
            "adam_weight_decay=None",
        ),
        (
            lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.AdamW()),
            "AdamW(weight_decay=0.004)",
            "keras.optimizers.Adam instead",
        ),
    ],
)
def test_an_optimizer_that_decays_already_is_refused(
    make: Callable[[], Any], attribute: str, remedy: str
) -> None:
    """Decay twice is never meant: the optimizer's own is named, with the remedy."""
    model = dense_model()
    model.compile(make(), mse)
    with pytest.raises(ValueError, match="applied twice") as caught:
        fit_zeros(model, 1, [WeightDecay(LAM)])
    assert attribute in str(caught.value)
    assert remedy in str(caught.value)


@pytest.mark.usefixtures("float64")
def test_members_of_a_multi_optimizer_decay_at_their_own_rate() -> None:
    """Each member of a MultiOptimizer shrinks its variables by its own learning rate."""
    first = keras.layers.Dense(3, use_bias=False, name="first")
    second = keras.layers.Dense(2, use_bias=False, name="second")
    model = keras.Sequential([keras.Input((3,)), first, second])
    by_path = keras.optimizers.OptimizerMap(
        keras.optimizers.SGD(0.5), {".*first.*": keras.optimizers.Adam(0.25)}
    )
    model.compile(keras.optimizers.MultiOptimizer(by_path), mse)
    before = model.get_weights()
    logs = fit_zeros(model, 2, [WeightDecay(0.5)])
    after = model.get_weights()
    assert relative_distance(after[0], before[0] * (1 - 0.25 * 0.5) ** 2) < 1e-12
    assert relative_distance(after[1], before[1] * (1 - 0.5 * 0.5) ** 2) < 1e-12
    assert logs["decay_per_step"] == [0.25]  # the largest


def test_the_hook_lives_for_the_block_only() -> None:
    """Inside the block the update runs the hook first; after it, even raised, no trace is left."""
    optimizer = keras.optimizers.SGD(1.0)
    variable = keras.Variable(np.ones((2, 2), "float32"))
    optimizer.build([variable])
    attributes = dict(vars(optimizer))
    seen: list[float] = []

    def hook(optimizer: Any, grads: Any, variables: Any, learning_rate: Any, update: Any) -> None:
        seen.append(float(learning_rate))
        update([2 * grad for grad in grads], variables, learning_rate)

    def apply() -> None:
        optimizer.apply([keras.ops.ones((2, 2))], [variable])

    def interrupted() -> None:
        with optimizers.hooked([optimizer], hook):
            apply()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert vars(optimizer) == attributes
    apply()
    assert seen == [1.0]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), -2 * np.ones((2, 2)))


def test_keras_still_has_the_private_parts_that_are_used() -> None:
    """The hook's place in the optimizer, its signature, and the attributes read beside it."""
    optimizer = keras.optimizers.SGD(0.5)
    signature = inspect.signature(optimizer._backend_update_step)
    assert list(signature.parameters) == ["grads", "trainable_variables", "learning_rate"]
    assert float(optimizer._learning_rate) == 0.5
    assert int(optimizer._iterations) == 0
    if BACKEND == "tensorflow":
        assert optimizer._distribution_strategy is not None


@pytest.mark.parametrize(
    ("schedule", "peak"),
    [
        (keras.optimizers.schedules.CosineDecay(0.5, 10), 0.5),
        (
            keras.optimizers.schedules.CosineDecay(0.0, 10, warmup_target=0.25, warmup_steps=5),
            0.25,
        ),
        (keras.optimizers.schedules.PolynomialDecay(0.125, 10, end_learning_rate=0.5), 0.5),
        (keras.optimizers.schedules.PiecewiseConstantDecay([5], [0.25, 0.5]), 0.5),
        (keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9), 0.5),
        (keras.optimizers.schedules.InverseTimeDecay(0.5, 10, 2.0), 0.5),
        (keras.optimizers.schedules.CosineDecayRestarts(0.5, 10), 0.5),
        (0.5, 0.5),
    ],
)
def test_the_peak_of_the_learning_rate(schedule: Any, peak: float) -> None:
    """The peak of each of Keras' schedules is its largest learning rate."""
    assert optimizers.peak_learning_rate(keras.optimizers.SGD(schedule)) == peak


class Constant(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of the user's own."""

    def __call__(self, step: Any) -> float:
        return 0.5

    def get_config(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    "rate",
    [Constant(), keras.optimizers.schedules.ExponentialDecay(0.5, 10, 1.1), 0.0],
    ids=["own", "growing", "zero"],
)
def test_a_peak_that_cannot_be_known_is_asked_for(rate: Any) -> None:
    """A schedule of the user's own, one that grows, and a rate of zero need peak_learning_rate."""
    with pytest.raises(ValueError, match=r"Pass peak_learning_rate="):
        optimizers.peak_learning_rate(keras.optimizers.SGD(rate))
