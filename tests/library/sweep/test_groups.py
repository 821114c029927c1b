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
from tests.support.sweeps import (
    BATCH,
    BY_XLA,
    EPOCHS,
    data,
    dense,
    distance,
    linear,
    momentum,
    reference,
)

LAMS = (0.1, 0.6)


def heavy() -> Any:
    return keras.optimizers.SGD(0.1, momentum=0.9)


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
    monkeypatch.setattr(memory, "cores", lambda: 1)  # one stack; more: see below
    result = l2keras.sweep(
        linear, LAMS, *data(), optimizer=heavy(), learning_rates=[0.1, 1e30], loss=mse,
        batch_size=BATCH, epochs=EPOCHS, verbose=0,
    )  # fmt: skip
    assert result.status == ("finished", "diverged") * 2
    before = 1 if BACKEND == "torch" else 2  # the first epoch compiles, and is not judged by
    assert epochs == {4: before, 2: EPOCHS - before}
    for i, lam in enumerate(LAMS):
        weights, history = reference(linear, data, heavy, lam=lam, loss=mse)
        assert distance(result.weights[2 * i], weights) < 1e-5
        assert result.history["loss"][2 * i] == pytest.approx(history["loss"], rel=1e-5)


@BY_XLA
def test_members_that_are_left_move_where_each_thread_has_half_as_many(
    stacks: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two stacks of three, two are left, who would be as slow in one; or one, who goes on."""
    loaded: list[int] = []
    load = Group.load

    def noted(self: Any, *args: Any) -> None:
        loaded.append(self.size)
        load(self, *args)

    monkeypatch.setattr(Group, "load", noted)
    monkeypatch.setattr(training, "COMPILE_SECONDS", 0.0)

    def run(finite: int) -> Any:
        rates = [0.1] * finite + [1e30] * (5 - finite)
        return l2keras.sweep(
            dense, 0.3, *data(), optimizer=momentum(), learning_rates=rates, loss="mse",
            batch_size=BATCH, epochs=EPOCHS, verbose=0,
        )  # fmt: skip

    run(2)
    assert loaded == [6]
    loaded.clear()
    result = run(1)
    assert loaded == [6, 1]
    assert result.status == ("finished", *["diverged"] * 4)
    weights, _ = reference(dense, data, momentum, lam=0.3)
    assert distance(result.weights[0], weights) < 1e-5
