"""Many steps in one call: compiled on TensorFlow and JAX, one after another on torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from typing import Any

import keras
import numpy as np

from l2keras._sweep import interrupts, memory, programs
from l2keras._sweep.programs import Step, Steps


def threads() -> ThreadPoolExecutor:
    """For the stacks of a group: one for each core. To begin them for each call takes 1 ms."""
    return ThreadPoolExecutor(memory.cores(), "l2keras-sweep")


def compiled(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`function` of tensors, compiled on TensorFlow and JAX."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        graph: Callable[[Any], Any] = tf.function(function, autograph=False)
        return graph
    if backend == "jax":
        import jax

        jitted: Callable[[Any], Any] = jax.jit(function)
        return jitted
    return function


def one_call(assigning: Callable[[], None]) -> Callable[[], None]:
    """What assigns variables, as one call on TensorFlow, where each assignment takes its time."""
    if keras.backend.backend() != "tensorflow":
        return assigning
    import tensorflow as tf

    graph = tf.function(assigning, autograph=False)
    # Calling `graph` itself would warn of retracing at the fifth sweep of a process.
    concrete: Callable[[], Callable[[], None]] = functools.cache(graph.get_concrete_function)
    return lambda: concrete()()


def trace(function: Callable[[Any], Any], values: Any) -> None:
    """Traces what `compiled` has made without running it; on torch, runs it."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        function.get_concrete_function(values)  # type: ignore[attr-defined]  # a tf.function
    elif backend == "jax":
        import jax

        jax.eval_shape(function, values)
    else:
        function(values)


class Loop:
    """`step` over up to `programs.CHUNK` batches in one call: compiled on TensorFlow and JAX.

    Args:
        step: Reads and assigns the variables of the first stack, and nothing else that changes.
        stacks: Keras variables, as many and of the same shapes in each; one stack on torch. The
            step is traced with the first and run on all, side by side.
        x, y: Arrays, or nested structures of arrays, of examples along the first axis.
        clusters: On TensorFlow, the sizes of the batches whose loop XLA compiles; see `stacking`.
        apart: On JAX, whether each step is a program of its own; see `stacking`.
    """

    def __init__(
        self,
        step: Step,
        stacks: Sequence[Sequence[Any]],
        x: Any,
        y: Any,
        *,
        clusters: Collection[int] = (),
        apart: bool = False,
    ) -> None:
        self._stacks = [list(variables) for variables in stacks]
        data = keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y))
        backend = keras.backend.backend()
        self._backend: Any
        if backend == "tensorflow":
            self._backend = programs.TensorFlow(step, self._stacks[0], data, clusters)
        elif backend == "jax":
            self._backend = programs.Jax(step, self._stacks[0], data, apart)
        else:
            self._backend = programs.Torch(step, self._stacks[0], data)
        self._compiled: dict[Any, Steps] = {}

    def __call__(self, indices: Any, pool: Executor) -> None:
        """Runs a step on each row of examples; returns, or raises, when all stacks have ended.

        Args:
            indices: int32 array, shape (steps, batch), or (steps, members, batch) with the members
                of all stacks; at most `programs.CHUNK` steps.
            pool: Where more stacks than one run; see `threads`.
        """
        own = self._split(indices)
        steps = self._steps(own[0].shape[1:])
        if len(own) == 1:
            steps(self._stacks[0], indices)
            return
        running: list[Future[None]] = []
        try:
            with interrupts.held():
                pairs = zip(self._stacks, own, strict=True)
                running = [pool.submit(steps, *pair) for pair in pairs]
            wait(running)
        finally:
            wait(running)  # a second Ctrl-C, raised above, goes on when all have ended
        for one in running:
            one.result()

    @property
    def num_programs(self) -> int:
        """How many have been made by now: one for each shape of a batch, on torch some later."""
        on_torch = keras.backend.backend() == "torch"
        return int(self._backend.num_recorded) if on_torch else len(self._compiled)

    def trace(self, indices: Any) -> None:
        """Compiles the steps of a first call without running one; on torch, runs the first."""
        steps = self._steps(self._split(indices)[0].shape[1:])
        if keras.backend.backend() == "torch":
            steps(self._stacks[0], indices[:1])

    def _steps(self, shape: tuple[int, ...]) -> Steps:
        """The steps on batches of this shape, compiled once."""
        if shape not in self._compiled:
            self._compiled[shape] = self._backend.steps(shape)
        return self._compiled[shape]

    def _split(self, indices: Any) -> list[Any]:
        """The rows of each stack."""
        stacks = len(self._stacks)
        return np.split(indices, stacks, axis=1) if indices.ndim == 3 else [indices] * stacks
