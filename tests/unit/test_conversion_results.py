"""What a result of convert can do, and what it refuses."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras import HalfL2, convert


def test_an_exact_result_is_a_float_everywhere() -> None:
    """Keras, JSON, NumPy, pickle, arithmetic and text take it as the number that it is."""
    result = convert(1e-4, "torch.SGD", "keras.L2")
    assert result.exact  # a float for the type checker, too
    assert HalfL2(result).get_config() == {"lam": 5e-5}
    assert keras.regularizers.L2(result).get_config() == {"l2": 5e-5}
    assert keras.optimizers.SGD(0.1, weight_decay=result).weight_decay == 5e-5
    assert l2keras.WeightDecay(result).lam == 5e-5
    assert json.dumps({"l2": result}) == '{"l2": 5e-05}'
    assert np.asarray([result]).dtype == np.float64
    assert (f"{result}", f"{result:.1e}", str(result)) == ("5e-05", "5.0e-05", "5e-05")
    for twin in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert (twin, twin.value, twin.exact, twin.why) == (5e-5, 5e-5, True, result.why)
    assert repr(result) == f"Conversion(value=5e-05, exact=True, why={result.why!r})"
    assert result * 2 == 1e-4


def test_an_inexact_result_is_no_float() -> None:
    """Passing it on raises and names `.value`; so does float()."""
    result: Any = convert(1e-4, "torch.SGD", "keras.weight_decay")
    assert not isinstance(result, float)
    for use in (float, np.float64, HalfL2):
        with pytest.raises(TypeError) as caught:
            use(result)
        assert "value=0.0001, exact=False" in str(caught.value)
    with pytest.raises(TypeError, match=r"Take its `\.value`"):
        float(result)
    with pytest.raises(AttributeError):
        result.value = 1.0
    assert pickle.loads(pickle.dumps(result)) == result
