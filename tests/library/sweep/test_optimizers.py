"""`sweep` against `fit`: optimizers, learning rates, couplings, masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import optimizers

import l2keras
from tests.support.models import BACKEND, mse
from tests.support.sweeps import BATCH, EPOCHS, alone, data, distance, linear

pytestmark = pytest.mark.usefixtures("float64")

LAM = 0.6
TOLERANCE = 1e-10
# On torch the update of `fit` is float64; the plain one of Keras takes these maxima in float32.
FLOAT32_MAXIMUM = ("amsgrad", "Adamax") if BACKEND == "torch" else ()
COUPLINGS = ("penalty", "coupled", "decoupled", "independent")

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "SGD": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.5),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.5, nesterov=True),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.2),
    "loss scale": lambda: optimizers.SGD(0.1, loss_scale_factor=8.0),
    "average": lambda: optimizers.SGD(0.1, use_ema=True, ema_momentum=0.7),
    "overwritten by the average": lambda: optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=2
    ),
    "accumulation": lambda: optimizers.SGD(0.1, momentum=0.5, gradient_accumulation_steps=2),
    "Adam": lambda: optimizers.Adam(0.05),
    "amsgrad": lambda: optimizers.Adam(0.05, amsgrad=True),
    "AdamW": lambda: optimizers.AdamW(0.05, weight_decay=0.0),
    "Adamax": lambda: optimizers.Adamax(0.05),
    "Nadam": lambda: optimizers.Nadam(0.05),
    "RMSprop": lambda: optimizers.RMSprop(0.05),
    "centered": lambda: optimizers.RMSprop(0.05, momentum=0.5, centered=True),
    "Adagrad": lambda: optimizers.Adagrad(0.1),
    "Adadelta": lambda: optimizers.Adadelta(1.0),
    "Ftrl": lambda: optimizers.Ftrl(0.1),
    "Lion": lambda: optimizers.Lion(0.02),
}


def run(optimizer: Any, **options: Any) -> Any:
    """A sweep of lam = 0 and LAM."""
    return l2keras.sweep(
        linear, [0.0, LAM], *data(), optimizer=optimizer, loss=mse, batch_size=BATCH,
        epochs=EPOCHS, verbose=0, **options,
    )  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_elementwise_optimizer(name: str) -> None:
    """With each, a member ends where `fit` ends, and the optimizer passed is not changed."""
    coupling = COUPLINGS[list(OPTIMIZERS).index(name) % 3]
    coupling = "coupled" if name == "Ftrl" else coupling
    optimizer = OPTIMIZERS[name]()
    result = run(optimizer, coupling=coupling)
    assert not optimizer.built
    model, history = alone(linear, data(), OPTIMIZERS[name](), lam=LAM, coupling=coupling, loss=mse)
    tolerance = 1e-7 if name in FLOAT32_MAXIMUM else TOLERANCE
    assert distance(result.weights[1], model.get_weights()) < tolerance
    assert distance(result.weights[0], model.get_weights()) > 1e-4
    assert result.history["loss"][1] == pytest.approx(history["loss"], rel=1e-6)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_every_coupling_with_a_schedule_and_a_mask(coupling: str) -> None:
    """A schedule per member, and what is included and excluded, are those of `fit`."""
    schedule = optimizers.schedules.CosineDecay(0.2, 12)
    masks: dict[str, Any] = {"include": "*", "exclude": "*hidden*"}
    result = run(optimizers.Adam(0.3), coupling=coupling, learning_rates=[schedule, 0.05], **masks)
    rates = [schedule, 0.05, schedule, 0.05]
    assert [member.learning_rate for member in result.members] == rates
    for i in (2, 3):
        model, _ = alone(
            linear, data(), optimizers.Adam(rates[i]), lam=LAM, coupling=coupling, loss=mse, **masks
        )
        tolerance = TOLERANCE if i == 3 else 1e-7  # Keras evaluates this schedule in float32
        assert distance(result.weights[i], model.get_weights()) < tolerance
        assert distance(result.weights[i - 2], model.get_weights()) > 0.01


def test_a_schedule_counts_batches_under_accumulation() -> None:
    """Keras calls a schedule with the count of batches, not of updates."""

    def make() -> Any:
        schedule = optimizers.schedules.ExponentialDecay(0.2, 5, 0.5)
        return optimizers.SGD(schedule, gradient_accumulation_steps=2)

    result = run(make())
    model, _ = alone(linear, data(), make(), lam=LAM, loss=mse)
    assert distance(result.weights[1], model.get_weights()) < TOLERANCE


def test_data_loss_and_penalty_add_up_to_the_loss() -> None:
    """In the first epoch of one batch the penalty is (lam / 2) * sum(W ** 2) of the start."""
    x, y = data()
    result = l2keras.sweep(linear, LAM, x, y, loss=mse, batch_size=len(x), verbose=0)
    keras.utils.set_random_seed(0)
    model = linear()
    kernels = [layer.get_weights()[0] for layer in model.layers]
    penalty = LAM / 2 * sum(float(np.sum(kernel**2)) for kernel in kernels)
    # the model is built when the seed is set, so that this is where the member began
    assert result.history["penalty"][0] == pytest.approx([penalty])
    error = np.mean((model.predict(x, verbose=0) - y) ** 2)
    assert result.history["data_loss"][0] == pytest.approx([error])
    assert result.history["loss"][0] == pytest.approx([error + penalty])


class Vague(optimizers.schedules.LearningRateSchedule):
    """A schedule whose config does not tell one from another, or that has none."""

    def __init__(self, rate: float, *, has_config: bool) -> None:
        self.rate, self.has_config = rate, has_config

    def __call__(self, step: Any) -> Any:
        return self.rate / (1 + keras.ops.cast(step, "float64"))

    def get_config(self) -> dict[str, Any]:
        if not self.has_config:
            raise NotImplementedError
        return {}


@pytest.mark.parametrize("has_config", [True, False])
def test_schedules_are_told_apart_whatever_their_configs_say(has_config: bool) -> None:
    """Two of one class, and the optimizer's own, are followed by the members of each."""
    rates = [Vague(0.1, has_config=has_config), Vague(0.3, has_config=has_config)]
    result = run(optimizers.SGD(rates[1]), learning_rates=rates)
    own = run(optimizers.SGD(rates[1]))
    for i, rate in enumerate(rates):
        assert result.members[2 + i].learning_rate is rate
        model, _ = alone(linear, data(), optimizers.SGD(rate), lam=LAM, loss=mse)
        assert distance(result.weights[2 + i], model.get_weights()) < TOLERANCE
    assert distance(own.weights[1], result.weights[3]) < TOLERANCE
    assert distance(result.weights[2], result.weights[3]) > 1e-3


def test_a_schedule_whose_peak_nobody_knows_is_refused_by_name() -> None:
    """`independent` divides by the peak, which a schedule without a config does not tell."""
    rates = [Vague(0.1, has_config=False)]
    with pytest.raises(ValueError, match=r"must be known\. Received: learning_rate=.*Vague"):
        run(optimizers.SGD(0.1), coupling="independent", learning_rates=rates)


class Exact(optimizers.schedules.LearningRateSchedule):
    """A schedule in float64; Keras' own return float32, whatever floatx is."""

    def __call__(self, step: Any) -> Any:
        return 0.2 / (1 + 0.1 * keras.ops.cast(step, "float64"))

    def get_config(self) -> dict[str, Any]:
        return {}


def test_a_schedule_in_float64_is_followed_in_float64() -> None:
    """To 1e-10: what Keras' schedules differ by is their rounding, and none of ours."""
    result = run(optimizers.Adam(0.3), coupling="decoupled", learning_rates=[Exact()])
    for i, lam in enumerate((0.0, LAM)):
        model, _ = alone(
            linear, data(), optimizers.Adam(Exact()), lam=lam, coupling="decoupled", loss=mse
        )
        assert distance(result.weights[i], model.get_weights()) < 1e-10
