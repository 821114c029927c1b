"""Many steps in one call: compiled on TensorFlow and JAX, one after another on torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import keras
import numpy as np

from l2keras._keras import cluster

Step = Callable[[Any, Any], None]  # one training step on a batch (x, y)


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
    """`step` over many batches in one call: compiled on TensorFlow and JAX.

    Args:
        step: Reads and assigns `variables`, and nothing else that changes.
        variables: Keras variables.
        x, y: Arrays, or nested structures of arrays, of examples along the first axis.
        clusters: On TensorFlow, the sizes of the batches whose steps XLA compiles as a whole; see
            `stacking`.
        apart: On JAX, whether each step is a program of its own; see `stacking`.
    """

    def __init__(
        self,
        step: Step,
        variables: Sequence[Any],
        x: Any,
        y: Any,
        *,
        clusters: Collection[int] = (),
        apart: bool = False,
    ) -> None:
        self._step = step
        self._clusters = clusters
        self._apart = apart
        self._variables = list(variables)
        self._data = keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y))
        self._compiled: dict[Any, Any] = {}
        self._longest: dict[Any, int] = {}  # chunk that the JAX loop was compiled for

    def __call__(self, indices: Any) -> None:
        """Runs a step on each row of examples.

        Args:
            indices: int32 array, shape (steps, batch), or (steps, members, batch).
        """
        backend = keras.backend.backend()
        if backend == "tensorflow":
            self._call_tensorflow(indices)
        elif backend == "jax":
            self._call_jax(indices)
        else:
            self._call_torch(indices)

    @property
    def programs(self) -> int:
        """How many there are by now: one for each shape of a batch, and none on torch."""
        return len(self._compiled)

    def trace(self, indices: Any) -> None:
        """Traces the steps of a first call without running one; on torch, runs the first."""
        backend = keras.backend.backend()
        if backend == "tensorflow":
            self._graph(indices.shape[1:])
        elif backend == "jax":
            self._trace_jax(indices)
        else:
            self._call_torch(indices[:1])

    def _batch(self, data: Any, rows: Any) -> Any:
        return keras.tree.map_structure(lambda array: keras.ops.take(array, rows, axis=0), data)

    def _call_torch(self, indices: Any) -> None:
        import torch

        with torch.no_grad():
            for rows in indices:
                self._step(*self._batch(self._data, torch.as_tensor(rows)))

    def _call_tensorflow(self, indices: Any) -> None:
        import tensorflow as tf

        self._graph(indices.shape[1:])(tf.constant(indices, tf.int32))

    def _graph(self, key: Any) -> Any:
        """The steps on batches of this shape, traced once."""
        import tensorflow as tf

        if key not in self._compiled:
            function = tf.function(self._trace_tensorflow, autograph=False)
            spec = tf.TensorSpec((None, *key), tf.int32)
            self._compiled[key] = function.get_concrete_function(spec)
        return self._compiled[key]

    def _trace_tensorflow(self, indices: Any) -> None:
        import tensorflow as tf

        rows = indices.shape[1:]
        step = self._cluster(rows) if rows[-1] in self._clusters else self._step

        def body(i: Any) -> tuple[Any]:
            x, y = tf.nest.map_structure(lambda array: tf.gather(array, indices[i]), self._data)
            step(x, y)
            return (i + 1,)

        steps = tf.shape(indices)[0]
        tf.while_loop(lambda i: i < steps, body, (0,), parallel_iterations=1)

    def _cluster(self, rows: Any) -> Step:
        """The step for batches of `rows` examples, compiled by XLA where that does the same.

        Traced outside of XLA first: under it `tf.vectorized_map` makes functions of its own, whose
        gradients pass shapes from one to the other; XLA takes these for constants that depend on
        the weights, and compiles again in every step.
        """
        import tensorflow as tf

        def spec(array: Any) -> Any:
            return tf.TensorSpec((*rows, *array.shape[1:]), array.dtype)

        specs = tf.nest.map_structure(spec, self._data)
        plain = tf.function(self._step, autograph=False).get_concrete_function(*specs)

        def step(x: Any, y: Any) -> None:
            plain(x, y)

        function = tf.function(step, jit_compile=True, autograph=False)
        if cluster.find_obstacle(function, specs):
            return step
        compiled_step: Step = function.get_concrete_function(*specs)
        return compiled_step

    def _call_jax(self, indices: Any) -> None:
        state = [variable.value for variable in self._variables]
        if self._apart:
            for rows in indices:
                state = self._jitted(rows.shape, self._step_jax)(state, self._data, rows)
        else:
            state = self._loop_jax(state, indices)
        for variable, new in zip(self._variables, state, strict=True):
            variable.assign(new)

    def _loop_jax(self, state: Any, indices: Any) -> Any:
        """All steps as one program, so that none waits for Python."""
        key = indices.shape[1:]
        longest = self._longest.setdefault(key, len(indices))
        for start in range(0, len(indices), longest):  # as long as the first, to compile once
            rows = indices[start : start + longest]
            padded = np.resize(rows, (longest, *key))
            state = self._jitted(key, self._steps_jax)(state, self._data, padded, len(rows))
        return state

    def _trace_jax(self, indices: Any) -> None:
        import jax

        state = [variable.value for variable in self._variables]
        if self._apart:
            step = self._jitted(indices.shape[1:], self._step_jax)
            jax.eval_shape(step, state, self._data, indices[0])
        else:
            self._longest.setdefault(indices.shape[1:], len(indices))
            steps = self._jitted(indices.shape[1:], self._steps_jax)
            jax.eval_shape(steps, state, self._data, indices, len(indices))

    def _jitted(self, key: Any, function: Callable[..., Any]) -> Any:
        import jax

        if key not in self._compiled:
            self._compiled[key] = jax.jit(function, donate_argnums=0)
        return self._compiled[key]

    def _steps_jax(self, state: Any, data: Any, indices: Any, steps: Any) -> Any:
        import jax

        def body(i: Any, state: Any) -> Any:
            return self._step_jax(state, data, indices[i])

        return jax.lax.fori_loop(0, steps, body, state)

    def _step_jax(self, state: Any, data: Any, rows: Any) -> Any:
        pairs = list(zip(self._variables, state, strict=True))
        with keras.StatelessScope(state_mapping=pairs) as scope:
            self._step(*self._batch(data, rows))
        return [scope.get_current_value(variable) for variable in self._variables]
