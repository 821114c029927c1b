"""The threads that train the stacks of a group: what they know, and what ends with them."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import l2keras
from tests.support.models import BACKEND, ON_TENSORFLOW
from tests.support.sweeps import (
    BATCH,
    BY_XLA,
    EPOCHS,
    LAMS,
    alone,
    data,
    dense,
    distance,
    momentum,
    watch,
)


@BY_XLA
def test_an_error_in_one_stack_is_the_one_that_is_seen(
    stacks: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all threads have ended."""
    ended = []

    def fail(self: Any, steps: Any, variables: Any, indices: Any) -> None:
        if variables is self._stacks[0]:
            raise MemoryError("of the first")
        steps(variables, indices)
        time.sleep(0.3)
        ended.append(variables)

    watch(monkeypatch, fail)
    with pytest.raises(MemoryError, match="of the first"):
        l2keras.sweep(dense, LAMS, *data(), loss="mse", batch_size=BATCH, verbose=0)
    assert len(ended) == 1


@BY_XLA
def test_ctrl_c_twice_leaves_all_stacks_in_the_same_step(
    stacks: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second raises where the first waits for the end of a call: threads are waited for."""
    calls: list[int] = []
    lock = threading.Lock()

    def press(self: Any, steps: Any, variables: Any, indices: Any) -> None:
        with lock:
            calls.append(len(indices))
            pressed = len(calls) == 5  # of the first stack that comes to its third call
        if pressed:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        steps(variables, indices)

    watch(monkeypatch, press)
    before = threading.active_count()
    x, y = (array[: 2 * BATCH] for array in data())  # one call of two steps in each epoch
    result = l2keras.sweep(
        dense, LAMS, x, y, optimizer=momentum(), loss="mse", batch_size=BATCH, epochs=EPOCHS,
        verbose=0,
    )  # fmt: skip
    assert threading.active_count() == before
    assert result.status == ("interrupted",) * 5
    assert result.epochs == (2,) * 5
    for i, lam in enumerate(LAMS):  # at the end of the third, whose call was not to be stopped
        model, _ = alone(dense, (x, y), momentum(), lam=lam, epochs=3)
        assert distance(result.weights[i], model.get_weights()) < 1e-5


@ON_TENSORFLOW
def test_the_device_of_the_caller_is_that_of_the_threads(stacks: set[int]) -> None:
    """Not the default one."""
    import tensorflow as tf

    with tf.device("CPU:0"):
        result = l2keras.sweep(dense, LAMS, *data(), loss="mse", batch_size=BATCH, verbose=0)
    assert result.status == ("finished",) * 5
    assert stacks == {0, 1}


@pytest.mark.skipif(BACKEND != "jax", reason="a context that is JAX's")
def test_the_types_of_the_caller_are_those_of_the_threads(stacks: set[int]) -> None:
    """Where the caller's context has numbers of 32 bits, and the process numbers of 64."""
    import jax

    assert jax.config.read("jax_enable_x64")
    with jax.enable_x64(False):
        result = l2keras.sweep(dense, LAMS, *data(), loss="mse", batch_size=BATCH, verbose=0)
    assert result.status == ("finished",) * 5
    assert stacks == {0, 1}


@BY_XLA
def test_ctrl_c_twice_while_the_threads_are_given_their_work(
    stacks: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All stacks get it, and are waited for."""
    submit, calls = ThreadPoolExecutor.submit, []

    def press(self: Any, *args: Any) -> Any:
        running = submit(self, *args)
        calls.append(args)
        if len(calls) == 5:  # the first of two stacks, for the third time
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
        return running

    def slow(self: Any, steps: Any, variables: Any, indices: Any) -> None:
        time.sleep(0.1)
        steps(variables, indices)

    watch(monkeypatch, slow)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", press)
    x, y = (array[: 2 * BATCH] for array in data())  # one call of two steps in each epoch
    result = l2keras.sweep(
        dense, LAMS, x, y, optimizer=momentum(), loss="mse", batch_size=BATCH, epochs=EPOCHS,
        verbose=0,
    )  # fmt: skip
    assert len(calls) == 6
    assert result.epochs == (2,) * 5
    for i, lam in enumerate(LAMS):
        model, _ = alone(dense, (x, y), momentum(), lam=lam, epochs=3)
        assert distance(result.weights[i], model.get_weights()) < 1e-5


@BY_XLA
def test_the_threads_of_a_sweep_are_begun_once(
    stacks: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of all epochs and evaluations are the same two."""
    found: set[threading.Thread] = set()

    def noting(self: Any, steps: Any, variables: Any, indices: Any) -> None:
        found.add(threading.current_thread())
        time.sleep(0.05)  # for the other stack to need the other thread
        steps(variables, indices)

    watch(monkeypatch, noting)
    x, y = data()
    l2keras.sweep(
        dense, LAMS, x, y, validation_data=(x, y), loss="mse", batch_size=BATCH, epochs=EPOCHS,
        verbose=0,
    )  # fmt: skip
    assert len(found) == 2
    assert not any(thread.is_alive() for thread in found)
