"""`sweep` trains each member as its own `fit` does, on every backend."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import optimizers

import l2keras
from tests.support.models import BACKEND, mse
from tests.support.sweeps import BATCH, SIZE, alone, data, distance, linear, sized_data

LAM = 0.6


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("coupling", ["penalty", "coupled", "decoupled", "independent"])
def test_every_coupling_with_a_schedule_a_mask_and_seeds(
    coupling: str, request: pytest.FixtureRequest
) -> None:
    """Members are in the order lam, learning rate, seed; each ends where its own `fit` ends."""
    rates = [optimizers.schedules.CosineDecay(0.2, 12), 0.05]
    shared: dict[str, Any] = {"coupling": coupling, "include": "*", "exclude": "*hidden*"}
    shared |= {"loss": mse, "epochs": SIZE.epochs}
    result = l2keras.sweep(
        linear, [0.0, LAM], *sized_data(), optimizer=optimizers.Adam(0.3), learning_rates=rates,
        seeds=(3, 4), batch_size=BATCH, verbose=0, **shared,
    )  # fmt: skip
    members = [(lam, rate, seed) for lam in (0.0, LAM) for rate in rates for seed in (3, 4)]
    assert [(own.lam, own.learning_rate, own.seed) for own in result.members] == members
    compared = [(5, 1e-7), (6, 1e-10)]  # Keras evaluates this schedule in float32
    if BACKEND == "jax" and not request.config.getoption("full"):  # whose `fit` compiles longest
        del compared[coupling in ("coupled", "independent")]
    for i, tolerance in compared:
        lam, rate, seed = members[i]
        model, _ = alone(linear, sized_data(), optimizers.Adam(rate), lam=lam, seed=seed, **shared)
        assert distance(result.weights[i], model.get_weights()) < tolerance
        others = [weights for n, weights in enumerate(result.weights) if n != i]
        assert min(distance(weights, model.get_weights()) for weights in others) > 0.01


def test_validation_and_early_stopping_are_those_of_fit() -> None:
    """One member stops early, with its best weights. The last batches are smaller."""

    def options() -> dict[str, Any]:
        return {"loss": mse, "metrics": ["mae"], "epochs": 5, "validation_data": data(examples=7)}

    def stopping() -> Any:
        return keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)

    rates = [0.6, 0.02]  # the loss of small steps falls in every epoch
    result = l2keras.sweep(
        linear, LAM, *data(), optimizer=optimizers.SGD(0.1), learning_rates=rates,
        batch_size=BATCH, early_stopping=stopping(), verbose=0, **options(),
    )  # fmt: skip
    epochs = []
    for i, rate in enumerate(rates):
        model, history = alone(
            linear, data(), optimizers.SGD(rate), lam=LAM, callbacks=[stopping()], **options()
        )
        epochs.append(len(history["loss"]))
        assert distance(result.weights[i], model.get_weights()) < 1e-5
        for name in ("loss", "mae", "val_loss", "val_mae"):
            own = result.history[name][i]
            assert own[~np.isnan(own)] == pytest.approx(history[name], rel=1e-5)
    assert result.epochs == tuple(epochs)
    assert result.status == ("stopped", "finished")
    assert distance(result.weights[0], result.weights[1]) > 0.01
