"""convert against the systems themselves: the same weights, batches and 100 steps, float64.

"There" is the other system with its coefficient c, "here" Keras with the coefficient that
`convert` makes of c. The numbers are exact in float32, through which Keras takes its own, and
epsilon is as in test_against_torch: too small to matter. lam is 1/4 everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import HalfL2, WeightDecay, convert
from tests.support import factorial
from tests.support.models import (
    BACKEND,
    dense_model,
    fit,
    fit_zeros,
    kernel,
    mse,
    relative_distance,
)
from tests.support.other_systems import (
    BATCH_SIZE,
    BETAS,
    DATA,
    EPSILON,
    ETA,
    MOMENTUM,
    OTHERS,
    STEPS,
)

TOLERANCE = 1e-9

pytestmark = pytest.mark.usefixtures("float64")


def keras_rate() -> Any:
    """The schedule of `other_systems`, for Keras."""
    return keras.optimizers.schedules.PolynomialDecay(ETA, 128, end_learning_rate=0.0)


def keras_optimizer(name: str, weight_decay: float | None = None) -> Any:
    """SGD, momentum, nesterov or Adam; "scheduled" ones with that schedule."""
    rate = keras_rate() if "scheduled" in name else ETA
    if "adam" in name:
        return keras.optimizers.Adam(rate, *BETAS, epsilon=EPSILON, weight_decay=weight_decay)
    momentum = 0.0 if name.startswith("sgd") else MOMENTUM
    return keras.optimizers.SGD(
        rate, momentum, nesterov="nesterov" in name, weight_decay=weight_decay
    )


@cache
def here(optimizer: str, target: str, coefficient: float) -> Any:
    """The kernel after the 100 steps in Keras with `coefficient` as the target system has it."""
    regularizers = {"half_l2": HalfL2, "keras.L2": keras.regularizers.L2}
    couplings = {
        "WeightDecay": "decoupled",
        "WeightDecay.coupled": "coupled",
        "WeightDecay.independent": "independent",
    }
    regularizer = regularizers[target](coefficient) if target in regularizers else None
    decay = [WeightDecay(coefficient, coupling=couplings[target])] if target in couplings else []
    own = coefficient if target == "keras.weight_decay" else None
    model = dense_model(regularizer=regularizer)
    model.compile(keras_optimizer(optimizer, own), mse)
    fit(model, DATA, decay, batch_size=BATCH_SIZE)
    return kernel(model)


SYSTEMS: dict[tuple[str, str], Callable[[float], Any]] = {
    **OTHERS,
    ("keras.L2", "momentum"): lambda c: here("momentum", "keras.L2", c),
    ("keras.weight_decay", "momentum"): lambda c: here("momentum", "keras.weight_decay", c),
    ("keras.weight_decay", "adam"): lambda c: here("adam", "keras.weight_decay", c),
}

# lam = 1/4 in each: eta * lam is 1/64
COEFFICIENT = {
    "keras.L2": 0.125,
    "tfa.SGDW": 0.015625,
    "tfa.AdamW": 0.015625,
    "keras_adamw": 0.15625,
    "mosaicml.DecoupledAdamW": 0.015625,
}
COUPLED = ("half_l2", "keras.L2", "WeightDecay.coupled")
DECOUPLED = ("keras.weight_decay", "WeightDecay")
COUPLED_SYSTEMS = {
    *("torch.SGD", "torch.Adam", "optax.add_decayed_weights", "tf.l2_loss", "keras.L2"),
    *("mxnet.SGD", "caffe", "paddle.L2Decay", "fastai.l2_reg"),
}
PARTING = [
    ("torch.SGD", "momentum, scheduled", "half_l2"),
    ("torch.SGD", "momentum", "WeightDecay"),
    ("mxnet.SGD", "momentum", "keras.weight_decay"),
    ("tfa.SGDW", "momentum", "keras.L2"),
    ("fastai", "momentum", "half_l2"),
]


def equal_targets(system: str, optimizer: str) -> tuple[str, ...]:
    """What Keras has of the same kind, and of the other kind too under plain SGD."""
    if optimizer.startswith("sgd"):
        return (*COUPLED, *DECOUPLED)
    if system == "mosaicml.DecoupledAdamW":
        return (*DECOUPLED, "WeightDecay.independent")
    return COUPLED if system in COUPLED_SYSTEMS else DECOUPLED


def runs() -> list[Any]:
    """Every system under its optimizers."""
    without = pytest.mark.skipif(BACKEND != "tensorflow", reason="a function of TensorFlow")
    marks = {"tf.l2_loss": without}
    return [
        pytest.param(*run, marks=marks.get(run[0], ()))
        for run in SYSTEMS
        if run != ("torch.SGD", "momentum, scheduled")
    ]


@cache
def there(system: str, optimizer: str) -> Any:
    """The kernel after the steps of the other system."""
    return SYSTEMS[system, optimizer](COEFFICIENT.get(system, 0.25))


def converted(system: str, optimizer: str, target: str) -> Any:
    """The result of convert, told eta as a number or a schedule, and the optimizer."""
    name, _, schedule = optimizer.partition(", ")
    rate: Any = keras_rate() if schedule and system != "mosaicml.DecoupledAdamW" else ETA
    given: dict[str, Any] = {"learning_rate": rate, "optimizer": name, "num_steps": STEPS}
    return convert(COEFFICIENT.get(system, 0.25), system, target, **given)


@pytest.mark.parametrize(("system", "optimizer"), factorial.sample(runs(), 8))
def test_after_100_steps_the_weights_are_equal(system: str, optimizer: str) -> None:
    """Exact means exact: with each form that Keras has, and not without decay."""
    expected = there(system, optimizer)
    for target in equal_targets(system, optimizer):
        result = converted(system, optimizer, target)
        assert result.exact
        assert relative_distance(here(optimizer, target, result.value), expected) < TOLERANCE
    assert relative_distance(here(optimizer, "half_l2", 0.0), expected) > 1e-2


@pytest.mark.parametrize(("system", "optimizer", "target"), PARTING)
def test_what_is_not_exact_parts(system: str, optimizer: str, target: str) -> None:
    """Where the result says that it is not exact, the weights are not equal."""
    result = converted(system, optimizer, target)
    assert not result.exact
    assert relative_distance(here(optimizer, target, result.value), there(system, optimizer)) > 1e-3


def test_coupled_decay_acts_stronger_with_momentum() -> None:
    """Without data log(W) falls 1/(1 - mu) = 8 times as fast, once the velocity is there."""

    def logarithm_of_what_is_left(regularizer: Any, decay: list[Any]) -> float:
        model = dense_model(regularizer=regularizer)
        start = kernel(model)
        model.compile(keras_optimizer("momentum"), mse)
        fit_zeros(model, STEPS, decay)
        return float(np.log(kernel(model) / start).mean())

    lam = 1 / 64  # eta * lam / (1 - mu) = 1/128 per step
    coupled = logarithm_of_what_is_left(HalfL2(lam), [])
    decoupled = logarithm_of_what_is_left(None, [WeightDecay(lam)])
    assert 7.0 < coupled / decoupled < 8.0
