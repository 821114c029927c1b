"""A group as several stacks side by side. On torch there is one."""

from __future__ import annotations

import os
from pathlib import Path

import keras
import numpy as np
import pytest

import l2keras
from l2keras._keras.variables import standing_in
from l2keras._sweep import memory, stacking
from tests.support.models import ON_TENSORFLOW, to_numpy
from tests.support.sweeps import (
    BATCH,
    BY_XLA,
    SIZE,
    data,
    dense,
    distance,
    momentum,
    reference,
)


@BY_XLA
@pytest.mark.factorial(
    seeds=[(0,), (0, 1)],
    coupling=["penalty", "decoupled"],
    # test_stack_states has one seed, in float64; test_stack_metrics the penalty.
    affordable=lambda cell: cell.get("seeds") != (0,) and cell.get("coupling") != "penalty",
)
def test_members_of_every_stack_are_trained_as_if_alone(
    two_stacks: set[int], seeds: tuple[int, ...], coupling: str
) -> None:
    """An odd number of lambdas in two stacks of one size; each of two seeds has its own batches."""
    result = l2keras.sweep(
        dense, SIZE.lams, *data(), validation_data=data(), optimizer=momentum(), loss="mse",
        metrics=["mae"], epochs=SIZE.epochs, batch_size=BATCH, coupling=coupling, seeds=seeds,
        verbose=0,
    )  # fmt: skip
    assert two_stacks == {0, 1}
    for i, (lam, seed) in enumerate((lam, seed) for lam in SIZE.lams for seed in seeds):
        weights, history = reference(
            dense, data, momentum, lam=lam, seed=seed, coupling=coupling, metrics=("mae",),
            validated=True, epochs=SIZE.epochs,
        )  # fmt: skip
        assert distance(result.weights[i], weights) < 1e-5
        for name in ("loss", "mae", "val_loss", "val_mae"):
            assert np.allclose(result.history[name][i], history[name], rtol=1e-5, atol=0)
    assert distance(result.weights[0], result.weights[-1]) > 0.01


@BY_XLA
@pytest.mark.parametrize(
    ("size", "cores", "each"),
    [(1, 8, 1), (3, 2, 3), (4, 2, 2), (5, 2, 3), (32, 1, 32), (32, 2, 16), (32, 16, 2),
     (17, 8, 3), (31, 64, 3)],
)  # fmt: skip
def test_there_are_as_many_stacks_as_cores_and_at_least_two_members_in_each(
    monkeypatch: pytest.MonkeyPatch, size: int, cores: int, each: int
) -> None:
    """On a GPU there is one."""
    monkeypatch.setattr(memory, "cores", lambda: cores)
    monkeypatch.setattr(memory, "on_gpu", lambda: False)
    assert stacking.stack_size(dense(), size, [32]) == each
    monkeypatch.setattr(memory, "on_gpu", lambda: True)
    assert stacking.stack_size(dense(), size, [32]) == size


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("150000 100000", 2), ("9900000 100000", 8), (None, 8)]
)
def test_cores_are_those_that_the_process_may_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str | None, cores: int
) -> None:
    """Which taskset, or the quota of a container, may have made two_stackser."""
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert memory.cores() == cores
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert memory.cores() == cores


@ON_TENSORFLOW
def test_a_value_stands_in_for_a_variables_own() -> None:
    """Read and assigned in the block; its own is as it was."""
    import tensorflow as tf

    variable, other = keras.Variable(np.ones(2)), tf.Variable([3.0, 4.0])
    with standing_in([variable], [other]):
        assert to_numpy(keras.ops.convert_to_tensor(variable)).tolist() == [3.0, 4.0]
        variable.assign_add([1.0, 1.0])
    assert other.numpy().tolist() == [4.0, 5.0]
    assert to_numpy(variable).tolist() == [1.0, 1.0]
