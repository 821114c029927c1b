"""The equation of the library, written once; everything else calls it.

penalty(W) = (lam / 2) * sum(W ** 2)        grad penalty(W) = lam * W
W <- W - eta * (grad + lam * W) = (1 - eta * lam) * W - eta * grad

Toward an anchor W_0 instead of zero, W - W_0 takes the place of W.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from l2keras import _squares


def accumulation_dtype(dtype: str) -> str:
    """The dtype to compute in: float32 for float16 and bfloat16, the dtype itself otherwise."""
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def penalty(x: Any, lam: Any) -> Any:
    """`(lam / 2) * sum(x ** 2)`, in float32 or better, in few operations: eager ones cost most.

    Args:
        x: Variable, tensor or array of any shape; float dtype.
        lam: Python float, or a scalar tensor of the dtype that is returned.

    Returns:
        Scalar tensor, float32 for float16 and bfloat16 input, else in the dtype of `x`.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    wide = accumulation_dtype(dtype)
    return _squares.half_sum(x if dtype == wide else ops.cast(x, wide), lam)


def half_squared_norm(x: Any) -> Any:
    """`sum(x ** 2) / 2`: the penalty for lam = 1.

    Example:

    >>> float(half_squared_norm(keras.ops.convert_to_tensor([[3.0], [4.0]])))
    12.5
    """
    return penalty(x, 1.0)


def penalty_gradient(weight: Any, lam: Any, anchor: Any = None) -> Any:
    """`lam * W`, or `lam * (W - W_0)`: what coupled decay adds to the gradient."""
    return lam * (weight if anchor is None else weight - anchor)


def shrink_factor(learning_rate: Any, lam: Any) -> Any:
    """`1 - eta * lam`: what one step of decay multiplies W by."""
    return 1.0 - learning_rate * lam
