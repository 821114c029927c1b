"""What each backend needs to run one function over stacked members, and many steps in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from l2keras import penalties
from l2keras._sweep import tensorflow_rules

# (trainable, other, metrics, x, y) of one member -> (loss, new other, new metrics)
MemberStep = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any, Any]]
Step = Callable[[Any, Any], None]  # one training step on a batch (x, y)


class NotVectorizedError(ValueError):
    """An operation of the model has no form over stacked weights."""


def gradients(
    function: MemberStep, state: tuple[Any, Any, Any], x: Any, y: Any, *, stacked_batch: bool
) -> tuple[Any, Any, Any, Any]:
    """Losses, the other new states and the gradients of all members.

    Args:
        function: Of one member.
        state: Trainable, other and metric variables, each with a leading axis of members.
        x, y: One batch for all members, or one for each along a leading axis.
        stacked_batch: Whether `x` and `y` have that axis.

    Returns:
        Losses, shape (members,); other and metric variables; gradients, as `state`.
    """
    if state[0][0].shape[0] == 1:
        return _alone(function, state, x, y, stacked_batch)
    backend = keras.backend.backend()
    how = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[backend]
    return how(function, state, x, y, stacked_batch)


def over_members(function: Callable[..., Any], *arguments: Any, axes: Sequence[int | None]) -> Any:
    """`function` of every member; an axis of None marks an argument that all members share."""
    shape = [a for a, axis in zip(arguments, axes, strict=True) if axis is not None][0]
    if keras.tree.flatten(shape)[0].shape[0] == 1:
        own = [a if axis is None else first(a) for a, axis in zip(arguments, axes, strict=True)]
        return lift(function(*own))
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.vmap(function, in_axes=tuple(axes))(*arguments)
    if backend == "torch":
        import torch

        return torch.func.vmap(function, in_dims=tuple(axes), randomness="different")(*arguments)
    return _vectorized_map(function, arguments, axes)


def first(values: Any) -> Any:
    """The values of the only member."""
    return keras.tree.map_structure(lambda value: value[0], values)


def lift(values: Any) -> Any:
    """The values of the only member, stacked."""
    return keras.tree.map_structure(lambda value: keras.ops.expand_dims(value, 0), values)


def _alone(
    function: MemberStep, state: tuple[Any, Any, Any], x: Any, y: Any, stacked_batch: bool
) -> tuple[Any, Any, Any, Any]:
    """The plain step: a group of one is not vectorized."""
    trainable, other, metrics = (first(part) for part in state)
    batch = first((x, y)) if stacked_batch else (x, y)

    def loss_of(weights: Any) -> tuple[Any, Any]:
        loss, *rest = function(weights, other, metrics, *batch)
        return loss, rest

    loss, rest, grads = _value_and_gradient(loss_of, trainable)
    return keras.ops.expand_dims(loss, 0), *lift(rest), lift(grads)


def _value_and_gradient(loss_of: Callable[[Any], Any], weights: Any) -> tuple[Any, Any, Any]:
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        (loss, rest), grads = jax.value_and_grad(loss_of, has_aux=True)(weights)
        return loss, rest, grads
    if backend == "torch":
        import torch

        grads, (loss, rest) = torch.func.grad_and_value(loss_of, has_aux=True)(weights)
        return loss, rest, grads
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(weights)
        loss, rest = loss_of(weights)
    return loss, rest, _dense(tape.gradient(loss, weights), weights)


def _tensorflow(
    function: MemberStep, state: tuple[Any, Any, Any], x: Any, y: Any, stacked_batch: bool
) -> tuple[Any, Any, Any, Any]:
    """The gradient is taken outside: what is differentiated are operations on the stack."""
    import tensorflow as tf

    axis = 0 if stacked_batch else None
    trainable, other, metrics = state
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(trainable)
        losses, other, metrics = _vectorized_map(
            function, (trainable, other, metrics, x, y), (0, 0, 0, axis, axis)
        )
        total = tf.reduce_sum(losses)  # no member's loss depends on another's weights
    return losses, other, metrics, _dense(tape.gradient(total, trainable), trainable)


def _dense(grads: Any, weights: Any) -> Any:
    import tensorflow as tf

    def one(grad: Any, weight: Any) -> Any:
        return tf.zeros_like(weight) if grad is None else tf.convert_to_tensor(grad)

    return [one(grad, weight) for grad, weight in zip(grads, weights, strict=True)]


def _vectorized_map(
    function: Callable[..., Any], arguments: Sequence[Any], axes: Sequence[int | None]
) -> Any:
    import tensorflow as tf

    tensorflow_rules.register()
    stacked = [a for a, axis in zip(arguments, axes, strict=True) if axis is not None]

    def one(own: Any) -> Any:
        own = iter(own)
        return function(*[next(own) if axis is not None else a
                          for a, axis in zip(arguments, axes, strict=True)])  # fmt: skip

    try:
        return tf.vectorized_map(one, stacked, fallback_to_while_loop=False)
    except ValueError as error:
        if "No pfor vectorization defined" not in str(error):
            raise
        raise NotVectorizedError(str(error).splitlines()[0]) from error


def _jax(
    function: MemberStep, state: tuple[Any, Any, Any], x: Any, y: Any, stacked_batch: bool
) -> tuple[Any, Any, Any, Any]:
    import jax

    axis = 0 if stacked_batch else None

    def one(trainable: Any, other: Any, metrics: Any, x: Any, y: Any) -> Any:
        def loss_of(weights: Any) -> tuple[Any, Any]:
            loss, *rest = function(weights, other, metrics, x, y)
            return loss, rest

        return _value_and_gradient(loss_of, trainable)

    losses, (other, metrics), grads = jax.vmap(one, in_axes=(0, 0, 0, axis, axis))(*state, x, y)
    return losses, other, metrics, grads


def _torch(
    function: MemberStep, state: tuple[Any, Any, Any], x: Any, y: Any, stacked_batch: bool
) -> tuple[Any, Any, Any, Any]:
    import torch

    axis = 0 if stacked_batch else None

    def one(trainable: Any, other: Any, metrics: Any, x: Any, y: Any) -> Any:
        def loss_of(weights: Any) -> tuple[Any, Any]:
            loss, *rest = function(weights, other, metrics, x, y)
            return loss, rest

        return _value_and_gradient(loss_of, trainable)

    mapped = torch.func.vmap(one, in_dims=(0, 0, 0, axis, axis), randomness="different")
    try:
        losses, (other, metrics), grads = mapped(*state, x, y)
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        raise NotVectorizedError(str(error).splitlines()[0]) from error
    return losses, other, metrics, grads


def half_squared_norms(values: Sequence[Any]) -> Any:
    """`sum(W ** 2) / 2` over all of a member's stacked `values`, in floatx; shape (members,)."""
    floatx = keras.config.floatx()
    total = 0.0
    for value in values:
        flat = keras.ops.reshape(keras.ops.cast(value, floatx), (value.shape[0], -1))
        total = total + over_members(penalties.half_squared_norm, flat, axes=(0,))
    return total


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


class Loop:
    """`step` over many batches in one call: compiled on TensorFlow and JAX.

    Args:
        step: Reads and assigns `variables`, and nothing else that changes.
        variables: Keras variables.
        x, y: Arrays, or nested structures of arrays, of examples along the first axis.
    """

    def __init__(self, step: Step, variables: Sequence[Any], x: Any, y: Any) -> None:
        self._step = step
        self._variables = list(variables)
        self._data = keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y))
        self._compiled: dict[Any, Any] = {}

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

    def _batch(self, data: Any, rows: Any) -> Any:
        return keras.tree.map_structure(lambda array: keras.ops.take(array, rows, axis=0), data)

    def _call_torch(self, indices: Any) -> None:
        import torch

        with torch.no_grad():
            for rows in indices:
                self._step(*self._batch(self._data, torch.as_tensor(rows)))

    def _call_tensorflow(self, indices: Any) -> None:
        import tensorflow as tf

        key = indices.shape[1:]
        if key not in self._compiled:
            function = tf.function(self._trace_tensorflow, autograph=False)
            spec = tf.TensorSpec((None, *key), tf.int32)
            self._compiled[key] = function.get_concrete_function(spec)
        self._compiled[key](tf.constant(indices, tf.int32))

    def _trace_tensorflow(self, indices: Any) -> None:
        import tensorflow as tf

        def body(i: Any) -> tuple[Any]:
            x, y = tf.nest.map_structure(lambda array: tf.gather(array, indices[i]), self._data)
            self._step(x, y)
            return (i + 1,)

        steps = tf.shape(indices)[0]
        tf.while_loop(lambda i: i < steps, body, (0,), parallel_iterations=1)

    def _call_jax(self, indices: Any) -> None:
        import jax
        import numpy as np

        key = indices.shape[1:]
        if key not in self._compiled:
            jitted = jax.jit(self._trace_jax, donate_argnums=0)
            self._compiled[key] = [jitted, len(indices)]
        function, longest = self._compiled[key]
        for start in range(0, len(indices), longest):  # as long as the first, to compile once
            rows = indices[start : start + longest]
            padded = np.resize(rows, (longest, *key))
            state = [variable.value for variable in self._variables]
            for variable, new in zip(
                self._variables, function(state, self._data, padded, len(rows)), strict=True
            ):
                variable.assign(new)

    def _trace_jax(self, state: Any, data: Any, indices: Any, steps: Any) -> Any:
        import jax

        def body(i: Any, state: Any) -> Any:
            pairs = list(zip(self._variables, state, strict=True))
            with keras.StatelessScope(state_mapping=pairs) as scope:
                self._step(*self._batch(data, indices[i]))
            return [scope.get_current_value(variable) for variable in self._variables]

        return jax.lax.fori_loop(0, steps, body, state)
