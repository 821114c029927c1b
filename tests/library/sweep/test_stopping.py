"""Members of `sweep` that end before the others: early stopping, divergence."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from tests.support.models import mse
from tests.support.sweeps import EPOCHS, alone, data, distance, expected, linear, swept


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_member_that_diverges_is_frozen_and_the_others_go_on() -> None:
    """Its history ends with the epoch that is not finite; the other is that of `fit`."""
    result = swept(0.6, learning_rates=[0.1, 1e30])
    assert result.status == ("finished", "diverged")
    assert "diverged" in str(result)
    assert result.epochs == (EPOCHS, 1)
    assert len([row for row in result.table() if row["member"] == 1]) == 1
    model, history = expected(0.6)
    assert distance(result.weights[0], model.get_weights()) < 1e-5
    assert result.history["loss"][0] == pytest.approx(history["loss"], rel=1e-5)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_member_goes_on_from_its_own_weights_when_another_ends() -> None:
    """The averages that a diverged member is given leave the other in place."""

    def optimizer() -> Any:
        return keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)

    result = swept(0.6, optimizer=optimizer(), learning_rates=[0.1, 1e30])
    assert result.status == ("finished", "diverged")
    model, _ = alone(linear, data(), optimizer(), lam=0.6, loss=mse)
    assert distance(result.weights[0], model.get_weights()) < 1e-5


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_an_infinite_loss_has_diverged() -> None:
    """A penalty beyond float32 ends the member in the first epoch, before anything is nan."""
    result = swept((0.6, 3e38), batch_size=11)  # one step in an epoch
    assert result.history["loss"][1, 0] == np.inf
    assert result.status == ("finished", "diverged")
    assert result.epochs == (EPOCHS, 1)


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("average", [False, True])
def test_each_member_stops_early_as_in_fit(restore: bool, average: bool) -> None:
    """After as many epochs, with the weights of the last or of the best one."""
    options: dict[str, Any] = {"validation_data": data(examples=7), "epochs": 5}

    def stopping() -> Any:
        return keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=restore)

    def optimizer(rate: float = 0.1) -> Any:
        return keras.optimizers.SGD(rate, use_ema=average, ema_momentum=0.5)

    rates = [0.6, 0.02]  # the loss of small steps falls in every epoch
    result = swept(
        0.6, optimizer=optimizer(), learning_rates=rates, early_stopping=stopping(), **options
    )
    for i, rate in enumerate(rates):
        model, history = alone(
            linear, data(), optimizer(rate), lam=0.6, loss=mse, callbacks=[stopping()], **options
        )
        assert result.epochs[i] == len(history["val_loss"])
        own = result.history["val_loss"][i]
        assert own[~np.isnan(own)] == pytest.approx(history["val_loss"], rel=1e-5)
        assert distance(result.weights[i], model.get_weights()) < 1e-5
    assert result.epochs[0] < result.epochs[1]
    assert result.status == ("stopped", "finished")
    assert ("best epoch in val_loss" in str(result)) is restore
