"""Stacks side by side: each has the state of the optimizer for its members."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._sweep import memory
from tests.support import factorial
from tests.support.sweeps import (
    BATCH,
    BY_XLA,
    OPTIMIZERS,
    SIZE,
    WHOLE,
    data,
    dense,
    distance,
    reference,
    sized_data,
)

pytestmark = [BY_XLA, pytest.mark.usefixtures("float64")]


def adam() -> Any:
    return keras.optimizers.Adam(0.1)


def test_stacks_are_equal_to_fit_in_float64(two_stacks: set[int]) -> None:
    """To 1e-10, Adam and its counts too."""
    result = l2keras.sweep(
        dense, SIZE.lams, *data(), optimizer=adam(), loss="mse", epochs=SIZE.epochs,
        batch_size=BATCH, verbose=0,
    )  # fmt: skip
    assert two_stacks == {0, 1}
    for i, lam in enumerate(SIZE.lams):
        weights, _ = reference(dense, data, adam, lam=lam, epochs=SIZE.epochs)
        assert distance(result.weights[i], weights) < 1e-10


@pytest.mark.parametrize(
    "name", factorial.sample(["Nadam", "average", "accumulation", "amsgrad"], 1)
)
def test_each_stack_has_the_state_of_its_optimizer(
    two_stacks: set[int], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Two groups, one after the other, of an odd number of members in two stacks."""
    most = len(SIZE.lams)
    monkeypatch.setattr(memory, "MOST", most)
    full = SIZE is WHOLE
    options: dict[str, Any] = {"epochs": min(SIZE.epochs, 3), "coupling": "coupled"}
    result = l2keras.sweep(
        dense, SIZE.lams, *sized_data(), optimizer=OPTIMIZERS[name](), loss="mse", batch_size=BATCH,
        seeds=(0, 1), validation_data=sized_data() if full else None, verbose=0, **options,
    )  # fmt: skip
    assert two_stacks == {0, 1}
    assert result.notes[0].startswith(f"{2 * most} members, {most} at once")
    for i, (lam, seed) in enumerate((lam, seed) for lam in SIZE.lams for seed in (0, 1)):
        weights, history = reference(
            dense, sized_data, OPTIMIZERS[name], lam=lam, seed=seed, validated=full, **options
        )
        assert distance(result.weights[i], weights) < 1e-9
        for metric in ("loss", "val_loss") if full else ("loss",):
            assert np.allclose(result.history[metric][i], history[metric], rtol=1e-8, atol=0)
    assert distance(result.weights[0], result.weights[-2]) > 0.01
