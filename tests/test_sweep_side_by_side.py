"""A group as several stacks, each of which XLA trains in a thread of its own."""

from __future__ import annotations

import os
import threading
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._keras.variables import standing_in
from l2keras._sweep import loops, memory, stacking
from tests.helpers import BACKEND, ON_TENSORFLOW, to_numpy
from tests.sweeps import BATCH, EPOCHS, alone, data, distance

LAMS = (0.0, 0.1, 0.3, 0.6, 0.9)

BY_XLA = pytest.mark.skipif(BACKEND == "torch", reason="torch has no XLA, and one stack")


def dense() -> Any:
    layers = keras.layers
    return keras.Sequential([keras.Input((3,)), layers.Dense(8, "relu"), layers.Dense(2)])


def convolution() -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Conv2D(2, 2), layers.Flatten(), layers.Dense(2)]
    )


def momentum() -> Any:
    return keras.optimizers.SGD(0.1, momentum=0.5)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Two cores, stacks of two members or more, everything compiled; the threads that train."""
    monkeypatch.setattr(stacking, "BYTES_THAT_PAY", 0)
    monkeypatch.setattr(stacking, "LEAST", 2)
    monkeypatch.setattr(memory, "cores", lambda: 2)
    found: set[str] = set()
    prepare = loops.Loop._run

    def watched(self: Any, shape: Any) -> Any:
        run = prepare(self, shape)

        def noting(variables: Any, indices: Any) -> None:
            found.add(threading.current_thread().name)
            run(variables, indices)

        return noting

    monkeypatch.setattr(loops.Loop, "_run", watched)
    return found


@BY_XLA
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
@pytest.mark.parametrize("coupling", ["penalty", "decoupled"])
def test_members_of_every_stack_are_trained_as_if_alone(
    threads: set[str], seeds: tuple[int, ...], coupling: str
) -> None:
    """Five lambdas take six seats in two stacks; two seeds see batches of their own."""
    result = l2keras.sweep(
        dense, LAMS, *data(), validation_data=data(), optimizer=momentum(), loss="mse",
        metrics=["mae"], epochs=EPOCHS, batch_size=BATCH, coupling=coupling, seeds=seeds, verbose=0,
    )  # fmt: skip
    assert len(threads) == 2
    for i, (lam, seed) in enumerate((lam, seed) for lam in LAMS for seed in seeds):
        model, history = alone(
            dense, data(), momentum(), lam=lam, seed=seed, coupling=coupling, metrics=["mae"],
            validation_data=data(),
        )  # fmt: skip
        assert distance(result.weights[i], model.get_weights()) < 1e-5
        for name in ("loss", "mae", "val_loss", "val_mae"):
            assert np.allclose(result.history[name][i], history[name], rtol=1e-5, atol=0)


@BY_XLA
def test_stacks_are_equal_to_fit_in_float64(threads: set[str], float64: None) -> None:
    """To 1e-10, Adam and its counts too."""
    x, y = (array.astype("float64") for array in data())
    result = l2keras.sweep(
        dense, LAMS, x, y, optimizer=keras.optimizers.Adam(0.1), loss="mse", epochs=EPOCHS,
        batch_size=BATCH, verbose=0,
    )  # fmt: skip
    assert len(threads) == 2
    for i, lam in enumerate(LAMS):
        model, _ = alone(dense, (x, y), keras.optimizers.Adam(0.1), lam=lam)
        assert distance(result.weights[i], model.get_weights()) < 1e-10


@BY_XLA
def test_an_error_in_one_stack_is_the_one_that_is_seen(
    threads: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all threads have ended."""
    ended: list[str] = []
    run_loop = loops.Loop._run

    def failing(self: Any, shape: Any) -> Any:
        run = run_loop(self, shape)

        def fail(variables: Any, indices: Any) -> None:
            run(variables, indices)
            ended.append(threading.current_thread().name)
            if variables is self._stacks[1]:
                raise MemoryError("of the second")

        return fail

    monkeypatch.setattr(loops.Loop, "_run", failing)
    with pytest.raises(MemoryError, match="of the second"):
        l2keras.sweep(dense, LAMS, *data(), loss="mse", batch_size=BATCH, verbose=0)
    assert len(ended) == 2


@BY_XLA
@pytest.mark.parametrize(
    ("size", "cores", "stacks"),
    [(1, 8, 1), (3, 2, 1), (4, 2, 2), (32, 2, 2), (32, 1, 1), (32, 16, 16), (33, 64, 16)],
)
def test_there_are_as_many_stacks_as_cores_and_two_members_in_each(
    monkeypatch: pytest.MonkeyPatch, size: int, cores: int, stacks: int
) -> None:
    """On a GPU there is one."""
    monkeypatch.setattr(memory, "cores", lambda: cores)
    monkeypatch.setattr(memory, "on_gpu", lambda: False)
    assert stacking.side_by_side(dense(), size, [32]) == stacks
    monkeypatch.setattr(memory, "on_gpu", lambda: True)
    assert stacking.side_by_side(dense(), size, [32]) == 1


@pytest.mark.parametrize(
    ("build", "on_jax", "elsewhere"), [(dense, (32, 4), (32, 1)), (convolution, (4, 4), (32, 1))]
)
def test_what_is_not_compiled_by_xla_stays_in_one_stack(
    monkeypatch: pytest.MonkeyPatch, build: Any, on_jax: Any, elsewhere: Any
) -> None:
    """TensorFlow's and torch's operations use all cores. JAX's convolutions are not stacked."""
    monkeypatch.setattr(memory, "cores", lambda: 4)
    monkeypatch.setattr(memory, "on_gpu", lambda: False)
    most, why = stacking.most_at_once(build())
    found = most, stacking.side_by_side(build(), most, [])
    assert found == (on_jax if BACKEND == "jax" else elsewhere)
    assert bool(why) == (most == 4)


@pytest.mark.parametrize("stacks", [1, 2])
def test_convolutions_are_trained_as_if_alone(monkeypatch: pytest.MonkeyPatch, stacks: int) -> None:
    """On JAX each is a stack of its own; three members take four seats in two of them."""
    monkeypatch.setattr(memory, "cores", lambda: stacks)
    x = np.random.default_rng(0).normal(size=(11, 4, 4, 1)).astype("float32")
    examples = x, x[:, 0, :2, 0]
    options: dict[str, Any] = {"epochs": 2, "batch_size": BATCH, "validation_data": examples}
    result = l2keras.sweep(
        convolution, LAMS[:3], *examples, optimizer=momentum(), loss="mse", metrics=["mae"],
        verbose=0, **options,
    )  # fmt: skip
    options.pop("batch_size")
    for i, lam in enumerate(LAMS[:3]):
        model, history = alone(
            convolution, examples, momentum(), lam=lam, metrics=["mae"], **options
        )
        assert distance(result.weights[i], model.get_weights()) < 1e-5
        assert np.allclose(result.history["val_mae"][i], history["val_mae"], rtol=1e-4, atol=0)


def test_cores_are_those_that_the_process_may_use() -> None:
    """Which a container, or taskset, may have made fewer."""
    assert 1 <= memory.cores() <= (os.cpu_count() or 1)


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
