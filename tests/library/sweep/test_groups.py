"""How `sweep` goes on in a smaller group when members have ended."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import pytest

import l2keras
from l2keras._sweep import memory, training
from l2keras._sweep.group import Group
from tests.support.models import BACKEND, mse
from tests.support.sweeps import BATCH, EPOCHS, alone, data, distance, linear

LAMS = (0.1, 0.6)


def momentum(rate: float = 0.1) -> Any:
    return keras.optimizers.SGD(rate, momentum=0.9)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_members_that_move_into_a_smaller_group_go_on_as_if_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two of four diverge: the others take their momentum along, after an epoch of no compiling."""
    epochs: Counter[int] = Counter()
    fit = Group.fit

    def counted(self: Any, batches: Any, pool: Any) -> Any:
        epochs[self.size] += 1
        return fit(self, batches, pool)

    monkeypatch.setattr(Group, "fit", counted)
    monkeypatch.setattr(training, "COMPILE_SECONDS", 0.0)
    monkeypatch.setattr(memory, "cores", lambda: 1)  # one stack; more: test_sweep_side_by_side
    result = l2keras.sweep(
        linear, LAMS, *data(), optimizer=momentum(), learning_rates=[0.1, 1e30], loss=mse,
        batch_size=BATCH, epochs=EPOCHS, verbose=0,
    )  # fmt: skip
    assert result.status == ("finished", "diverged") * 2
    before = 1 if BACKEND == "torch" else 2  # the first epoch compiles, and is not judged by
    assert epochs == {4: before, 2: EPOCHS - before}
    for i, lam in enumerate(LAMS):
        model, history = alone(linear, data(), momentum(), lam=lam, loss=mse)
        assert distance(result.weights[2 * i], model.get_weights()) < 1e-5
        assert result.history["loss"][2 * i] == pytest.approx(history["loss"], rel=1e-5)
