"""Half the sum of squares of a tensor, in the form that each backend computes fastest."""

from __future__ import annotations

import functools
from typing import Any

import keras

from l2keras._keras import xla

# XLA on a CPU adds a long row number by number, each addition waiting for the one before: four
# times as long as eight rows that are added to one another first.
LANES = 8
# Elements. On torch, a function with a gradient of its own costs some 40 us more to call, and saves
# three temporaries as large as x.
LARGE = 2**17
_ROW = 512  # elements; torch adds up each row of float32 one by one, 1e-6 off at worst


def half_sum(x: Any, scale: Any = 1.0) -> Any:
    """`scale * sum(x ** 2) / 2`, a scalar tensor; its gradient is `scale * x`.

    Args:
        x: Variable, tensor or array of any shape; float dtype, which is that of the result.
        scale: Python float, or a scalar tensor of that dtype.
    """
    x = keras.ops.convert_to_tensor(x)
    backend = None if isinstance(x, keras.KerasTensor) else keras.backend.backend()
    if backend == "tensorflow":
        return scale * _tensorflow(x)
    if backend == "torch":
        return _torch(x, scale)
    return (0.5 * scale) * keras.ops.sum(keras.ops.square(x))


def half_row_sums(rows: Any, lanes: int = 1) -> Any:
    """`sum(rows ** 2, axis=1) / 2`.

    Args:
        rows: Tensor of shape (rows, n).
        lanes: Parts of each row, added to one another first, where they are equally long.
    """
    squares = keras.ops.square(rows)
    count, size = squares.shape
    if lanes > 1 and size % lanes == 0:
        parts = keras.ops.reshape(squares, (count, lanes, size // lanes))
        squares = sum(keras.ops.unstack(parts, axis=1))
    return 0.5 * keras.ops.sum(squares, axis=1)


def _tensorflow(x: Any) -> Any:
    """As a graph operation in one pass; square-then-sum would write a temporary as large as x."""
    import tensorflow as tf

    size = x.shape.num_elements()
    if not size or size % LANES or not xla.is_under_xla():
        return tf.nn.l2_loss(x)

    @tf.custom_gradient
    def in_lanes(x: Any) -> Any:
        row = tf.reshape(x, (1, size))
        return half_row_sums(row, LANES)[0], lambda upstream: upstream * x

    return in_lanes(x)


def _torch(x: Any, scale: Any) -> Any:
    """By torch's own operations: keras.ops look at every argument, a third of the time."""
    import torch

    if x.numel() < LARGE or x.numel() % _ROW or torch.compiler.is_compiling():
        return (0.5 * scale) * x.square().sum()
    return scale * _torch_function().apply(x)


@functools.cache
def _torch_function() -> Any:
    """Autograd's own form of square-then-sum takes three times as long for a large x."""
    import torch

    class HalfSum(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x: Any) -> Any:
            norms = torch.linalg.vector_norm(x.reshape(-1, _ROW), dim=1)  # writes no squares
            return norms.square().sum() / 2

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any], output: Any) -> None:
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> Any:
            (x,) = ctx.saved_tensors
            return upstream * x

        @staticmethod
        def jvp(ctx: Any, tangent: Any) -> Any:
            (x,) = ctx.saved_tensors
            return (x * tangent).sum()

    return HalfSum
