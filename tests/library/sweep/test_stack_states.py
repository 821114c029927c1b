"""Stacks side by side: each has the state of the optimizer for its members."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._sweep import memory
from tests.library.sweep.test_optimizers import OPTIMIZERS
from tests.support.sweeps import (
    BATCH,
    BY_XLA,
    THREE,
    data,
    dense,
    distance,
    full_batches,
    reference,
)

pytestmark = [BY_XLA, pytest.mark.usefixtures("float64")]


def adam() -> Any:
    return keras.optimizers.Adam(0.1)


def test_stacks_are_equal_to_fit_in_float64(few: set[int]) -> None:
    """To 1e-10, Adam and its counts too."""
    result = l2keras.sweep(
        dense, THREE, *data(), optimizer=adam(), loss="mse", epochs=3, batch_size=BATCH, verbose=0
    )
    assert few == {0, 1}
    for i, lam in enumerate(THREE):
        weights, _ = reference(dense, data, adam, lam=lam, epochs=3)
        assert distance(result.weights[i], weights) < 1e-10


@pytest.mark.parametrize("name", ["Nadam", "average", "accumulation", "amsgrad"])
def test_each_stack_has_the_state_of_its_optimizer(
    few: set[int], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, name: str
) -> None:
    """Two groups, one after the other, of three members and a spare seat."""
    monkeypatch.setattr(memory, "MOST", 3)
    full = request.config.getoption("full")
    examples = data if full else full_batches
    options: dict[str, Any] = {"epochs": 2, "coupling": "coupled"}
    result = l2keras.sweep(
        dense, THREE, *examples(), optimizer=OPTIMIZERS[name](), loss="mse", batch_size=BATCH,
        seeds=(0, 1), validation_data=examples() if full else None, verbose=0, **options,
    )  # fmt: skip
    assert few == {0, 1}
    assert result.notes[0].startswith("6 members, 3 at once")
    for i, (lam, seed) in enumerate((lam, seed) for lam in THREE for seed in (0, 1)):
        weights, history = reference(
            dense, examples, OPTIMIZERS[name], lam=lam, seed=seed, validated=full, **options
        )
        assert distance(result.weights[i], weights) < 1e-9
        for metric in ("loss", "val_loss") if full else ("loss",):
            assert np.allclose(result.history[metric][i], history[metric], rtol=1e-8, atol=0)
    assert distance(result.weights[0], result.weights[4]) > 0.01
