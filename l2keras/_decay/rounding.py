"""Rounds to a dtype so that the mean is kept: what decay needs where it is below half an ulp.

In bfloat16, W * (1 - 1e-4) rounds back to W, for ever. Rounded up or down at random, with the
probabilities that make the expected value exact, it decays on average. Source: Gupta et al.,
Deep Learning with Limited Numerical Precision, arXiv 1502.02551, section 2.2.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

LOW_PRECISION = ("float16", "bfloat16")

_MANTISSA_BITS = {"float16": 10, "bfloat16": 7}
_SMALLEST_ULP = {"float16": 2.0**-24, "bfloat16": 2.0**-126}
_EXPONENT_OF_FLOAT32 = 0x7F800000


def rounded(wide: Any, dtype: str, seed: tuple[Any, int] | None) -> Any:
    """`wide` in `dtype`: the nearest value, or for low precision one whose mean is `wide`.

    Args:
        wide: Tensor of any shape; float32 if `dtype` is float16 or bfloat16.
        dtype: Name of a float dtype.
        seed: (count of updates, integer tensor of rank 0; index of the variable); None to
            round to the nearest value.
    """
    if seed is None:
        return ops.cast(wide, dtype)
    mask = ops.convert_to_tensor(_EXPONENT_OF_FLOAT32, "int32")
    exponent = ops.bitwise_and(ops.view(wide, "int32"), mask)
    power_of_two = ops.view(exponent, "float32")  # the largest one not above abs(wide)
    ulp = ops.maximum(power_of_two * 2.0 ** -_MANTISSA_BITS[dtype], _SMALLEST_ULP[dtype])
    # Every operation but the draw is exact: ulp is a power of two.
    units = wide / ulp
    below = ops.floor(units)
    up = ops.cast(_uniform(wide, seed) < units - below, "float32")
    return ops.cast(ops.where(ops.isfinite(wide), (below + up) * ulp, wide), dtype)


def _uniform(like: Any, seed: tuple[Any, int]) -> Any:
    """float32 in [0, 1), the same on every replica for the same seed."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        pair = tf.stack([tf.cast(seed[0], "int32"), seed[1]])
        return tf.random.stateless_uniform(tf.shape(like), seed=pair)
    if backend == "torch":
        import torch

        return torch.rand_like(like)
    import jax

    return jax.random.uniform(jax.random.fold_in(jax.random.key(seed[1]), seed[0]), like.shape)
