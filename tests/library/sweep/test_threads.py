"""The threads that train the stacks of a group: what they know, and what ends with them."""

from __future__ import annotations

import logging
import os
import signal
import threading
from concurrent import futures
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any

import keras
import pytest

import l2keras
from l2keras._sweep import interrupts, loops
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

SECONDS = 60.0  # a test that waits as long for another thread fails


@BY_XLA
def test_an_error_in_one_stack_is_the_one_that_is_seen(
    stacks: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all threads have ended."""
    failed, ended = threading.Event(), []

    def fail(self: Any, steps: Any, variables: Any, indices: Any) -> None:
        if variables is self._stacks[0]:
            failed.set()
            raise MemoryError("of the first")
        assert failed.wait(SECONDS)
        steps(variables, indices)
        ended.append(variables)

    watch(monkeypatch, fail)
    with pytest.raises(MemoryError, match="of the first"):
        l2keras.sweep(dense, LAMS, *data(), loss="mse", batch_size=BATCH, verbose=0)
    assert len(ended) == 1


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Counts the Ctrl-C that `sweep` has heard. Two that follow at once may arrive as one."""
    hear, count = interrupts._hear, threading.Semaphore(0)

    def counted(number: int, frame: Any) -> None:
        try:
            hear(number, frame)
        finally:
            count.release()

    monkeypatch.setattr(interrupts, "_hear", counted)
    return count


def press(heard: threading.Semaphore) -> None:
    """Presses Ctrl-C and returns when `sweep` has heard it."""
    os.kill(os.getpid(), signal.SIGINT)
    assert heard.acquire(timeout=SECONDS)


@BY_XLA
def test_ctrl_c_twice_leaves_all_stacks_in_the_same_step(
    stacks: set[int], monkeypatch: pytest.MonkeyPatch, heard: threading.Semaphore
) -> None:
    """The second raises while the main thread waits for a call, whose steps all stacks finish."""
    waiting, pressed = threading.Event(), threading.Event()
    calls: list[int] = []
    call, wait = loops.Loop.__call__, futures.wait

    def counted(self: Any, indices: Any, pool: Any) -> None:
        waiting.clear()
        calls.append(len(indices))
        call(self, indices, pool)

    def noted(running: Any) -> Any:
        waiting.set()
        while wait(running, timeout=0.01).not_done:
            pass  # Python may miss a signal that arrives just before it waits without a timeout
        return wait(running)

    def pressing(self: Any, steps: Any, variables: Any, indices: Any) -> None:
        if len(calls) == 3 and variables is self._stacks[0]:
            assert waiting.wait(SECONDS)
            press(heard)
            press(heard)
            pressed.set()
        elif len(calls) == 3:
            assert pressed.wait(SECONDS)
        steps(variables, indices)

    monkeypatch.setattr(loops.Loop, "__call__", counted)
    monkeypatch.setattr(loops, "wait", noted)
    watch(monkeypatch, pressing)
    before = threading.active_count()
    x, y = (array[: 2 * BATCH] for array in data())  # one call of two steps in each epoch
    result = l2keras.sweep(
        dense, LAMS, x, y, optimizer=momentum(), loss="mse", batch_size=BATCH, epochs=EPOCHS,
        verbose=0,
    )  # fmt: skip
    assert calls == [2, 2, 2]
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
    stacks: set[int], monkeypatch: pytest.MonkeyPatch, heard: threading.Semaphore
) -> None:
    """All stacks get it and finish it."""
    submit, calls = futures.ThreadPoolExecutor.submit, []

    def pressing(self: Any, *args: Any) -> Any:
        running = submit(self, *args)
        calls.append(args)
        if len(calls) == 5:  # the first of two stacks, for the third time
            press(heard)
            press(heard)
        return running

    monkeypatch.setattr(futures.ThreadPoolExecutor, "submit", pressing)
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
    threads: set[threading.Thread] = set()
    both = threading.Barrier(2, timeout=SECONDS)  # one thread cannot take both stacks

    def noting(self: Any, steps: Any, variables: Any, indices: Any) -> None:
        threads.add(threading.current_thread())
        both.wait()
        steps(variables, indices)

    watch(monkeypatch, noting)
    x, y = data()
    l2keras.sweep(
        dense, LAMS, x, y, validation_data=(x, y), loss="mse", batch_size=BATCH, epochs=EPOCHS,
        verbose=0,
    )  # fmt: skip
    assert len(threads) == 2
    assert not any(thread.is_alive() for thread in threads)


@ON_TENSORFLOW
def test_many_groups_do_not_warn_of_retracing() -> None:
    """Each group traces its own call once; TensorFlow counts traces by their line of code."""
    logger, warnings = logging.getLogger("tensorflow"), SimpleQueue[logging.LogRecord]()
    handler = QueueHandler(warnings)
    logger.addHandler(handler)
    try:
        counters = [Counter() for _ in range(8)]
        for counter in counters:
            loops.one_call(counter.increment)()
        assert [float(counter.count) for counter in counters] == [1.0] * 8
        assert warnings.empty()
    finally:
        logger.removeHandler(handler)


class Counter:
    def __init__(self) -> None:
        self.count = keras.Variable(0.0)

    def increment(self) -> None:
        self.count.assign_add(1.0)
