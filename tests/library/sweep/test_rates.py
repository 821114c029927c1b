"""`sweep` against `fit`: learning rates and schedules; the loss and the penalty."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import optimizers

import l2keras
from tests.support.models import mse
from tests.support.sweeps import BATCH, SIZE, alone, distance, linear, sized_data

pytestmark = pytest.mark.usefixtures("float64")

LAM = 0.6
TOLERANCE = 1e-10


def run(optimizer: Any, **options: Any) -> Any:
    """A sweep of lam = 0 and LAM."""
    return l2keras.sweep(
        linear, [0.0, LAM], *sized_data(), optimizer=optimizer, loss=mse, batch_size=BATCH,
        epochs=SIZE.epochs, verbose=0, **options,
    )  # fmt: skip


def fit(optimizer: Any, lam: float = LAM, **options: Any) -> list[Any]:
    """The weights of a member of it by `fit`."""
    options = {"loss": mse, "epochs": SIZE.epochs, **options}
    model, _ = alone(linear, sized_data(), optimizer, lam=lam, **options)
    return list(model.get_weights())


def test_a_schedule_counts_batches_under_accumulation() -> None:
    """Keras calls a schedule with the count of batches, not of updates."""

    def make() -> Any:
        schedule = optimizers.schedules.ExponentialDecay(0.2, 5, 0.5)
        return optimizers.SGD(schedule, gradient_accumulation_steps=2)

    result = run(make())
    assert distance(result.weights[1], fit(make())) < TOLERANCE


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
        assert distance(result.weights[2 + i], fit(optimizers.SGD(rate))) < TOLERANCE
    assert distance(own.weights[1], result.weights[3]) < TOLERANCE
    assert distance(result.weights[2], result.weights[3]) > 1e-3


def test_a_schedule_whose_peak_nobody_knows_is_refused_by_name() -> None:
    """`independent` divides by the peak, which a schedule without a config does not tell."""
    rates = [Vague(0.1, has_config=False)]
    with pytest.raises(ValueError, match=r"must be known\. Received: learning_rate=.*Vague"):
        run(optimizers.SGD(0.1), coupling="independent", learning_rates=rates)


def test_data_loss_and_penalty_add_up_to_the_loss() -> None:
    """In the first epoch of one batch the penalty is (lam / 2) * sum(W ** 2) of the start."""
    x, y = sized_data()
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
        weights = fit(optimizers.Adam(Exact()), lam, coupling="decoupled")
        assert distance(result.weights[i], weights) < 1e-10
