"""One function over stacked members: what each backend needs for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from l2keras import _squares
from l2keras._keras import tensorflow_rules, torch_vmap
from l2keras._sweep import refusals

LARGE = 4096  # elements of a member: below, adding in lanes takes longer to compile than it saves

# (trainable, other, metrics, x, y) of one member -> (loss, new other, new metrics)
MemberStep = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any, Any]]


def stacked(variable: Any, size: int) -> Any:
    """A variable of zeros for `size` members' values of `variable`."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return keras.Variable(
        keras.ops.zeros((size, *variable.shape), dtype),
        dtype=dtype,
        trainable=bool(variable.trainable),
        name=str(variable.name).replace("/", "_").replace(":", "_"),
    )


def gradients(
    function: MemberStep, state: tuple[Any, Any, Any], x: Any, y: Any, axis: int | None
) -> tuple[Any, Any, Any, Any]:
    """Losses, the other new states and the gradients of all members.

    Args:
        function: Of one member.
        state: Trainable, other and metric variables, each with a leading axis of members.
        x, y: One batch for all members, or one for each along a leading axis.
        axis: 0 where they have that axis, else None.

    Returns:
        Losses, shape (members,); other and metric variables; gradients, as `state`.
    """
    axes = (0, 0, 0, axis, axis)
    if keras.backend.backend() == "tensorflow" and state[0][0].shape[0] > 1:
        return _tensorflow_gradients(function, (*state, x, y), axes)

    def one(trainable: Any, other: Any, metrics: Any, x: Any, y: Any) -> Any:
        def loss_of(weights: Any) -> tuple[Any, Any]:
            loss, *rest = function(weights, other, metrics, x, y)
            return loss, rest

        loss, rest, grads = _value_and_gradient(loss_of, trainable)
        return loss, *rest, grads

    result: tuple[Any, Any, Any, Any] = over_members(one, *state, x, y, axes=axes)
    return result


def over_members(function: Callable[..., Any], *arguments: Any, axes: Sequence[int | None]) -> Any:
    """`function` of every member; an axis of None marks an argument that all members share."""
    stacked = [a for a, axis in zip(arguments, axes, strict=True) if axis is not None]
    members = keras.tree.flatten(stacked)[0].shape[0]
    if members == 1:  # a group of one is not vectorized
        own = [a if axis is None else first(a) for a, axis in zip(arguments, axes, strict=True)]
        return lift(function(*own))
    how = {"tensorflow": _tensorflow_map, "jax": _jax_map, "torch": _torch_map}
    with refusals.naming_the_layer():
        return how[keras.backend.backend()](function, arguments, axes)


def repeated(values: Any, size: int) -> Any:
    """The same for each of `size` members."""

    def one(value: Any) -> Any:
        return keras.ops.broadcast_to(keras.ops.expand_dims(value, 0), (size, *value.shape))

    return keras.tree.map_structure(one, values)


def first(values: Any) -> Any:
    """The values of the only member."""
    return keras.tree.map_structure(lambda value: value[0], values)


def lift(values: Any) -> Any:
    """The values of the only member, stacked."""
    return keras.tree.map_structure(lambda value: keras.ops.expand_dims(value, 0), values)


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


def _tensorflow_gradients(
    function: MemberStep, arguments: Sequence[Any], axes: Sequence[int | None]
) -> tuple[Any, Any, Any, Any]:
    """The gradient is taken outside: what is differentiated are operations on the stack."""
    import tensorflow as tf

    trainable = arguments[0]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(trainable)
        losses, other, metrics = over_members(function, *arguments, axes=axes)
        total = tf.reduce_sum(losses)  # no member's loss depends on another's weights
    return losses, other, metrics, _dense(tape.gradient(total, trainable), trainable)


def _dense(grads: Any, weights: Any) -> Any:
    import tensorflow as tf

    def one(grad: Any, weight: Any) -> Any:
        return tf.zeros_like(weight) if grad is None else tf.convert_to_tensor(grad)

    return [one(grad, weight) for grad, weight in zip(grads, weights, strict=True)]


def _tensorflow_map(
    function: Callable[..., Any], arguments: Sequence[Any], axes: Sequence[int | None]
) -> Any:
    import tensorflow as tf

    tensorflow_rules.register()
    stacked = [a for a, axis in zip(arguments, axes, strict=True) if axis is not None]

    def one(own: Any) -> Any:
        own = iter(own)
        return function(*[next(own) if axis is not None else a
                          for a, axis in zip(arguments, axes, strict=True)])  # fmt: skip

    return tf.vectorized_map(one, stacked, fallback_to_while_loop=False)


def _jax_map(
    function: Callable[..., Any], arguments: Sequence[Any], axes: Sequence[int | None]
) -> Any:
    import jax

    return jax.vmap(function, in_axes=tuple(axes))(*arguments)


def _torch_map(
    function: Callable[..., Any], arguments: Sequence[Any], axes: Sequence[int | None]
) -> Any:
    import torch

    with torch_vmap.adapted():
        mapped = torch.func.vmap(function, in_dims=tuple(axes), randomness="different")
        return mapped(*arguments)


def half_squared_norms(values: Sequence[Any], lanes: int = 1) -> Any:
    """`sum(W ** 2) / 2` over all of a member's stacked `values`, in floatx; shape (members,).

    Args:
        values: Stacked tensors.
        lanes: Of values that are large for a member, see `_squares.half_row_sums`.
    """
    floatx = keras.config.floatx()
    rows = [keras.ops.reshape(keras.ops.cast(v, floatx), (v.shape[0], -1)) for v in values]
    return sum(_squares.half_row_sums(r, lanes if r.shape[1] >= LARGE else 1) for r in rows)
