"""Members of `sweep` that end before the others: early stopping, divergence."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from tests.support.models import mse
from tests.support.sweeps import EPOCHS, SIZE, WHOLE, alone, data, distance, expected, linear, swept


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


# lams, learning rates and epochs. Small steps lower the loss in every epoch.
STOPPING: dict[str, tuple[tuple[float, ...], tuple[float, ...], int]] = {
    "rates": ((3.0,), (0.6, 0.3, 0.02), 5)
}
if SIZE is WHOLE:
    STOPPING["lams"] = ((0.0, 0.2, 0.8), (0.6,), 8)


@pytest.mark.factorial(
    members=list(STOPPING),
    average=[False, True],
    restore=[False, True],
    affordable=lambda cell: not cell.get("average", False),
)
def test_each_member_stops_early_as_in_fit(members: str, restore: bool, average: bool) -> None:
    """After as many epochs, with the weights of the last or of the best one."""
    lams, rates, most = STOPPING[members]
    options: dict[str, Any] = {"validation_data": data(examples=7), "epochs": most}

    def stopping() -> Any:
        return keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=restore)

    def optimizer(rate: float = 0.1) -> Any:
        return keras.optimizers.SGD(rate, use_ema=average, ema_momentum=0.5)

    result = swept(
        lams, optimizer=optimizer(), learning_rates=rates, early_stopping=stopping(), **options
    )
    epochs = []
    for i, (lam, rate) in enumerate((lam, rate) for lam in lams for rate in rates):
        model, history = alone(
            linear, data(), optimizer(rate), lam=lam, loss=mse, callbacks=[stopping()], **options
        )
        epochs.append(len(history["val_loss"]))
        own = result.history["val_loss"][i]
        assert own[~np.isnan(own)] == pytest.approx(history["val_loss"], rel=1e-5)
        assert distance(result.weights[i], model.get_weights()) < 1e-5
    assert result.epochs == tuple(epochs)
    assert epochs == ([2, 3, 5] if members == "rates" else [3, 3, 3])
    assert result.status == tuple("stopped" if n < most else "finished" for n in epochs)
    assert ("best epoch in val_loss" in str(result)) is restore
