"""`sweep` against `fit`: every kind of layer, float32 and float64. See test_recurrent, too."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from tests.support.models import BACKEND
from tests.support.sweeps import EXAMPLES, compare_with_fit, data, layer_cases, linear


def sequential(shape: tuple[int, ...], *parts: Any) -> Any:
    return keras.Sequential([keras.Input(shape), *parts])


def convolutions() -> Any:
    return sequential(
        (6, 6, 2),
        layers.Conv2D(3, 3, padding="same", activation="elu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.DepthwiseConv2D(2),
        layers.Conv2DTranspose(2, 2, strides=2, activation="elu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2),
    )


def grouped_convolution() -> Any:
    return sequential((6, 6, 2), layers.Conv2D(4, 3, groups=2), layers.Flatten(), layers.Dense(2))


def normalizations() -> Any:
    return sequential(
        (3,),
        layers.Dense(6),
        layers.BatchNormalization(momentum=0.5, epsilon=0.1),  # batches of 4: without it, rounding
        layers.LayerNormalization(epsilon=0.1),
        layers.Dense(8, activation="elu"),
        layers.GroupNormalization(2, epsilon=0.1),
        layers.Dense(2),
    )


def attention() -> Any:
    inputs = keras.Input((5,), dtype="int32")
    embedded = layers.Embedding(9, 4)(inputs)
    attended = layers.MultiHeadAttention(2, 3)(embedded, embedded)
    hidden = layers.LayerNormalization()(layers.Add()([embedded, attended]))
    pooled = layers.GlobalAveragePooling1D()(layers.Conv1D(3, 2)(hidden))
    return keras.Model(inputs, layers.Dense(2)(pooled))


def penalties_of_its_own() -> Any:
    l1_l2 = keras.regularizers.L1L2(0.1, 0.2)
    hidden = layers.Dense(4, "elu", bias_regularizer=l1_l2, activity_regularizer=l1_l2)
    return sequential((3,), hidden, layers.Dense(2))


def images() -> Any:
    return sequential(
        (6, 6, 2),
        layers.Conv2D(3, 3, activation="elu"),
        layers.UpSampling2D(2, interpolation="bilinear"),
        layers.Conv2D(2, 2, activation="elu"),
        layers.Resizing(4, 4, interpolation="nearest"),
        layers.Flatten(),
        layers.Dense(2),
    )


def blurred() -> Any:
    kernel = np.full((2, 2, 2, 1), 0.25)

    class Blur(layers.Layer):
        def call(self, inputs: Any) -> Any:
            fixed = keras.ops.cast(kernel, inputs.dtype)
            return keras.ops.depthwise_conv(inputs, fixed, padding="same")

    return sequential((6, 6, 2), layers.Conv2D(2, 3), Blur(), layers.Flatten(), layers.Dense(2))


def tokens() -> tuple[Any, Any]:
    return np.random.default_rng(5).integers(0, 9, (EXAMPLES, 5)), data()[1]


MODELS: dict[str, tuple[Any, Any]] = {
    "dense": (linear, data),
    "convolutions": (convolutions, lambda: data((6, 6, 2))),
    "grouped": (grouped_convolution, lambda: data((6, 6, 2))),
    "penalties of its own": (penalties_of_its_own, data),
    "images": (images, lambda: data((6, 6, 2))),
    "a fixed kernel": (blurred, lambda: data((6, 6, 2))),
    "normalizations": (normalizations, data),
    "attention": (attention, tokens),
}


# What Keras computes in float32, whatever it is set to: on torch every product; on JAX means, tanh,
# sigmoid and softmax.
SINGLE = {
    "tensorflow": set(),
    "jax": {"convolutions", "attention"},
    "torch": MODELS.keys() - {"dense"},
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    whole = [("dense", "float32"), ("normalizations", "float64")]  # moving means are for validation
    full = metafunc.config.getoption("full")
    cases = layer_cases(MODELS, SINGLE[BACKEND], full=full, whole=whole)
    metafunc.parametrize(("name", "dtype", "whole"), cases)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # nearest, on torch
def test_each_member_equals_its_own_fit(name: str, dtype: str, whole: bool) -> None:
    """Weights and metrics are those of `fit`, to 1e-5 in float32 and to 1e-10 in float64."""
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    build, examples = MODELS[name]
    tolerance = {"float32": 1e-5, "float64": 1e-10}[dtype]
    compare_with_fit(build, examples(), tolerance, whole=whole)
