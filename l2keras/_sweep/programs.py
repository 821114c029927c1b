"""What runs the steps on batches of one shape: a compiled loop, on torch a list of operations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import keras
import numpy as np

from l2keras._keras import cluster
from l2keras._keras.variables import standing_in
from l2keras._sweep import recording

CHUNK = 64  # steps in one call
RECORDED_AFTER = 64  # steps on torch: to record one takes as long as some 50

Step = Callable[[Any, Any], None]  # one training step on a batch (x, y)
Steps = Callable[[Sequence[Any], Any], None]  # on a stack's variables, for rows of examples


def _batch(data: Any, rows: Any) -> Any:
    return keras.tree.map_structure(lambda array: keras.ops.take(array, rows, axis=0), data)


def _padded(rows: Any) -> Any:
    """As many as one program is compiled for."""
    return np.resize(rows, (CHUNK, *rows.shape[1:]))


class Torch:
    """Step after step; once some have run, only the operations of torch that they consist of.

    Of a small model's step the Python around these, Keras' and that of torch's vmap, takes most.

    Attributes:
        num_recorded: Of how many shapes the step has been recorded, or tried to.
    """

    def __init__(self, step: Step, variables: Sequence[Any], data: Any) -> None:
        self._step, self._variables, self._data = step, variables, data
        self.num_recorded = 0

    def steps(self, shape: Any) -> Steps:
        import torch

        program, done = self._plain, 0

        def steps(variables: Sequence[Any], indices: Any) -> None:
            nonlocal program, done
            values = [variable.value for variable in variables]
            with torch.no_grad():
                for rows in map(torch.as_tensor, indices):
                    done += 1
                    if done == RECORDED_AFTER:
                        program = self._recorded(rows, values)
                    program(rows, values, self._data)

        return steps

    def _plain(self, rows: Any, values: Any, data: Any) -> None:
        self._step(*_batch(data, rows))

    def _recorded(self, rows: Any, values: Any) -> Any:
        """The operations of a step; the step itself where these do not do the same."""

        def step(rows: Any, values: Sequence[Any], data: Any) -> None:
            with standing_in(self._variables, values):
                self._plain(rows, values, data)

        self.num_recorded += 1
        return recording.record(step, rows, values, self._data) or self._plain


class TensorFlow:
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


class Jax:
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
