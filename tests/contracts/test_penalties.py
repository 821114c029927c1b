"""The equation against numbers by hand."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from l2keras import penalties
from tests.support.models import BACKEND, gradient, to_numpy


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float16", "float32"),
        ("bfloat16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
    ],
)
def test_half_precision_is_accumulated_in_float32(dtype: str, expected: str) -> None:
    """float16 and bfloat16 are summed in float32, wider dtypes in their own."""
    assert penalties.accumulation_dtype(dtype) == expected
    total = penalties.half_squared_norm(keras.ops.ones((2, 3), dtype))
    assert keras.backend.standardize_dtype(total.dtype) == expected
    assert float(to_numpy(total)) == 3.0  # six ones, halved


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_sum_beyond_float16_does_not_overflow(dtype: str) -> None:
    """160,000 ones give 80,000, beyond float16's 65,504 and beyond bfloat16's 8 bits."""
    assert float(to_numpy(penalties.penalty(keras.ops.ones((400, 400), dtype), 1.0))) == 80_000.0


def test_the_penalty_is_half_lam_times_the_sum_of_squares() -> None:
    """penalty([[3], [4]], 0.5) is 0.5 / 2 * 25."""
    weight = np.array([[3.0], [4.0]])
    assert float(to_numpy(penalties.penalty(weight, 0.5))) == 6.25


def test_the_gradient_of_the_penalty_is_the_one_that_coupled_decay_adds() -> None:
    """Autodiff of penalty and penalty_gradient are both lam * W."""
    weight = np.array([[3.0, -1.0], [0.25, 8.0]])
    by_hand = np.array([[1.5, -0.5], [0.125, 4.0]])
    assert np.array_equal(gradient(lambda w: penalties.penalty(w, 0.5), weight), by_hand)
    assert np.array_equal(to_numpy(penalties.penalty_gradient(weight, 0.5)), by_hand)


def test_shrinking_is_a_step_along_that_gradient() -> None:
    """(1 - eta * lam) * W is W - eta * (lam * W): 10 - 0.25 * 0.5 * 10 = 8.75."""
    assert penalties.shrink_factor(0.25, 0.5) * 10.0 == 8.75


@pytest.mark.skipif(BACKEND != "tensorflow", reason="L2Loss is an operation of TensorFlow")
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_tensorflow_computes_it_in_one_fused_operation(dtype: str) -> None:
    """The traced graph has one L2Loss and neither Square nor Sum, the built-in the reverse."""
    ours = _operations(lambda w: penalties.penalty(w, 0.5), dtype)
    builtin = _operations(keras.regularizers.L2(0.25), dtype)
    assert ours.count("L2Loss") == 1
    assert not {"Square", "Sum", "Pow"} & set(ours)
    assert {"Square", "Sum"} <= set(builtin)


def _operations(function: Any, dtype: str) -> list[str]:
    import tensorflow as tf

    traced = tf.function(function).get_concrete_function(tf.TensorSpec((4, 5), dtype))
    return [operation.type for operation in traced.graph.get_operations()]
