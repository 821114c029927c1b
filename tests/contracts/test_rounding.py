"""Rounding at random: what keeps decay in low precision, drawn by each backend in its own way."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from l2keras._decay.rounding import rounded
from tests.support.models import to_numpy

STEPS, SIZE = 64, 100


@pytest.mark.parametrize(("dtype", "ulp"), [("bfloat16", 2.0**-7), ("float16", 2.0**-10)])
def test_a_value_midway_is_rounded_up_in_half_of_the_steps(dtype: str, ulp: float) -> None:
    """Each element on its own: between 1/8 and 7/8, 6 standard deviations of 64 draws."""
    midway = keras.ops.full((SIZE,), 1 + ulp / 2, "float32")
    ups = np.zeros(SIZE)
    for step in range(STEPS):
        count = keras.ops.convert_to_tensor(step, "int32")
        drawn = rounded(midway, dtype, (count, 3))
        assert keras.backend.standardize_dtype(drawn.dtype) == dtype
        above = to_numpy(keras.ops.cast(drawn, "float32")) - 1
        assert set(above.tolist()) == {0.0, ulp}
        ups += above > 0
    assert ups.min() > STEPS / 8
    assert ups.max() < STEPS * 7 / 8
