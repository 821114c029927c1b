"""Many steps in one call: compiled on TensorFlow and JAX, one after another on torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import keras
import numpy as np

from l2keras._keras import cluster
from l2keras._keras.variables import standing_in

CHUNK = 64  # steps in one call: Ctrl-C is heard after it

Step = Callable[[Any, Any], None]  # one training step on a batch (x, y)
Steps = Callable[[Sequence[Any], Any], None]  # on a stack's variables, for rows of examples


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
    """`step` over up to `CHUNK` batches in one call: compiled on TensorFlow and JAX.

    Args:
        step: Reads and assigns the variables of the first stack, and nothing else that changes.
        stacks: Keras variables, as many and of the same shapes in each; one stack on torch. The
            step is traced with the first and run on all, each in a thread of its own.
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
            self._backend = _TensorFlow(step, self._stacks[0], data, clusters)
        elif backend == "jax":
            self._backend = _Jax(step, self._stacks[0], data, apart)
        else:
            self._backend = _Torch(step, data)
        self._compiled: dict[Any, Steps] = {}

    def __call__(self, indices: Any) -> None:
        """Runs a step on each row of examples.

        Args:
            indices: int32 array, shape (steps, batch), or (steps, members, batch) with the members
                of all stacks; at most `CHUNK` steps.
        """
        own = self._split(indices)
        steps = self._steps(own[0].shape[1:])
        if len(own) == 1:
            steps(self._stacks[0], indices)
            return
        with ThreadPoolExecutor(len(own), "l2keras-sweep") as threads:
            running = [threads.submit(steps, *one) for one in zip(self._stacks, own, strict=True)]
            wait(running)  # a second Ctrl-C, which this raises, goes on when all have ended
        for one in running:
            one.result()

    @property
    def num_programs(self) -> int:
        """How many there are by now: one for each shape of a batch, and none on torch."""
        return 0 if keras.backend.backend() == "torch" else len(self._compiled)

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


def _batch(data: Any, rows: Any) -> Any:
    return keras.tree.map_structure(lambda array: keras.ops.take(array, rows, axis=0), data)


def _padded(rows: Any) -> Any:
    """As many as one program is compiled for."""
    return np.resize(rows, (CHUNK, *rows.shape[1:]))


class _Torch:
    """Step after step."""

    def __init__(self, step: Step, data: Any) -> None:
        self._step, self._data = step, data

    def steps(self, shape: Any) -> Steps:
        return self._run

    def _run(self, variables: Sequence[Any], indices: Any) -> None:
        import torch

        with torch.no_grad():
            for rows in indices:
                self._step(*_batch(self._data, torch.as_tensor(rows)))


class _TensorFlow:
    """A graph with a loop in it; where asked for, compiled by XLA."""

    def __init__(
        self, step: Step, variables: Sequence[Any], data: Any, clusters: Collection[int]
    ) -> None:
        self._step, self._variables, self._data = step, variables, data
        self._clusters = clusters

    def steps(self, shape: Any) -> Steps:
        import tensorflow as tf

        program = self._program(shape)

        def steps(variables: Sequence[Any], indices: Any) -> None:
            values = [variable.value for variable in variables]
            with tf.device(values[0].device):  # the caller's is not known in another thread
                program(tf.constant(_padded(indices)), tf.constant(len(indices)), values)

        return steps

    def _program(self, shape: Any) -> Any:
        """Compiled by XLA where it is to be, and where that does the same.

        Traced outside of XLA first: under it `tf.vectorized_map` makes functions of its own, whose
        gradients pass shapes from one to the other; XLA takes these for constants that depend on
        the weights, and compiles again in every step.
        """
        import tensorflow as tf

        values = [variable.value for variable in self._variables]
        specs = [tf.TensorSpec((CHUNK, *shape), tf.int32), tf.TensorSpec((), tf.int32)]
        plain = tf.function(self._trace, autograph=False).get_concrete_function(*specs, values)
        if shape[-1] not in self._clusters:
            return plain

        def program(indices: Any, steps: Any, values: Any) -> None:
            plain(indices, steps, values)

        function = tf.function(program, jit_compile=True, autograph=False)
        by_xla = function.get_concrete_function(*specs, values)

        def no_steps() -> None:
            by_xla(tf.zeros((CHUNK, *shape), tf.int32), tf.constant(0), values)

        obstacle = cluster.find_obstacle(function, [*specs, values], rehearse=no_steps)
        return plain if obstacle else by_xla

    def _trace(self, indices: Any, steps: Any, values: Sequence[Any]) -> None:
        import tensorflow as tf

        def body(i: Any) -> tuple[Any]:
            self._step(*tf.nest.map_structure(lambda a: tf.gather(a, indices[i]), self._data))
            return (i + 1,)

        with standing_in(self._variables, values):
            tf.while_loop(lambda i: i < steps, body, (0,), parallel_iterations=1)


class _Jax:
    """One program of all steps, or one for each."""

    def __init__(self, step: Step, variables: Sequence[Any], data: Any, apart: bool) -> None:
        self._step, self._variables, self._data = step, variables, data
        self._apart = apart

    def steps(self, shape: Any) -> Steps:
        import jax

        # Compiled here: in another thread JAX does not know of contexts like jax.default_device.
        jitted = jax.jit(self._one if self._apart else self._all, donate_argnums=0)
        state = [variable.value for variable in self._variables]
        rows = np.zeros((1, *shape), "int32")
        program = jitted.lower(state, self._data, *self._arguments(rows)[0]).compile()

        def steps(variables: Sequence[Any], indices: Any) -> None:
            state = [variable.value for variable in variables]
            for arguments in self._arguments(indices):
                state = program(state, self._data, *arguments)
            for variable, new in zip(variables, jax.block_until_ready(state), strict=True):
                variable.assign(new)

        return steps

    def _arguments(self, indices: Any) -> list[tuple[Any, ...]]:
        """Of one call after another."""
        if self._apart:
            return [(rows,) for rows in indices]
        return [(_padded(indices), np.int32(len(indices)))]

    def _all(self, state: Any, data: Any, indices: Any, steps: Any) -> Any:
        import jax

        def body(i: Any, state: Any) -> Any:
            return self._one(state, data, indices[i])

        return jax.lax.fori_loop(0, steps, body, state)

    def _one(self, state: Any, data: Any, rows: Any) -> Any:
        pairs = list(zip(self._variables, state, strict=True))
        with keras.StatelessScope(state_mapping=pairs) as scope:
            self._step(*_batch(data, rows))
        return [scope.get_current_value(variable) for variable in self._variables]
