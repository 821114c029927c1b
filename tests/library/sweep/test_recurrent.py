"""`sweep` against `fit`: recurrent layers, which are loops within the loop of steps."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import keras
import pytest
from keras import layers

from tests.support import factorial
from tests.support.models import BACKEND
from tests.support.sweeps import SIZE, SMALL, compare_with_fit, data, layer_cases

FRAMES = (2 if SIZE is SMALL else 3, 5, 5, 2)


def recurrent() -> Any:
    inputs = keras.Input((5, 3))
    unroll = SIZE is SMALL  # one loop in the fast tier: it takes seconds to trace
    made = layers.GRU(2), layers.LSTM(2, unroll=unroll), layers.SimpleRNN(2, unroll=unroll)
    return keras.Model(inputs, layers.Dense(2)(layers.Concatenate()([r(inputs) for r in made])))


def recurrent_convolution() -> Any:
    convolution = layers.ConvLSTM2D(2, 3, unroll=SIZE is SMALL)  # a loop takes 4 s to trace
    return keras.Sequential([keras.Input(FRAMES), convolution, layers.Flatten(), layers.Dense(2)])


MODELS: dict[str, tuple[Any, Any]] = {
    "recurrent": (recurrent, lambda: data((5, 3))),
    "recurrent convolution": (recurrent_convolution, lambda: data(FRAMES)),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # JAX and torch compute their activations in float32, whatever Keras is set to.
    single: Collection[str] = () if BACKEND == "tensorflow" else MODELS
    full = metafunc.config.getoption("full")
    cases = layer_cases(factorial.sample(MODELS, 1), single, full=full)
    metafunc.parametrize(("name", "dtype", "whole"), cases)


def test_each_member_equals_its_own_fit(name: str, dtype: str, whole: bool) -> None:
    """Weights and metrics are those of `fit`, to 1e-5 in float32 and to 1e-10 in float64."""
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    build, examples = MODELS[name]
    tolerance = {"float32": 1e-5, "float64": 1e-10}[dtype]
    compare_with_fit(build, examples(), tolerance, whole=whole)
