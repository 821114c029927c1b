"""`sweep` against `fit`: every kind of layer, float32 and float64."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import l2keras
from tests.support.models import BACKEND, mse
from tests.support.sweeps import BATCH, EPOCHS, EXAMPLES, alone, data, distance, linear

LAMS = (0.0, 0.6)  # times a learning rate of 0.1: five epochs shrink a weight to 0.6 of itself
SEEDS = (0, 1)


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


def recurrent() -> Any:
    inputs = keras.Input((5, 3))
    outputs = [make(2)(inputs) for make in (layers.GRU, layers.LSTM, layers.SimpleRNN)]
    return keras.Model(inputs, layers.Dense(2)(layers.Concatenate()(outputs)))


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


def recurrent_convolution() -> Any:
    return sequential((3, 5, 5, 2), layers.ConvLSTM2D(2, 3), layers.Flatten(), layers.Dense(2))


def tokens() -> tuple[Any, Any]:
    return np.random.default_rng(5).integers(0, 9, (EXAMPLES, 5)), data()[1]


MODELS: dict[str, tuple[Any, Any]] = {
    "dense": (linear, data),
    "convolutions": (convolutions, lambda: data((6, 6, 2))),
    "grouped": (grouped_convolution, lambda: data((6, 6, 2))),
    "penalties of its own": (penalties_of_its_own, data),
    "images": (images, lambda: data((6, 6, 2))),
    "a fixed kernel": (blurred, lambda: data((6, 6, 2))),
    "recurrent convolution": (recurrent_convolution, lambda: data((3, 5, 5, 2))),
    "normalizations": (normalizations, data),
    "recurrent": (recurrent, lambda: data((5, 3))),
    "attention": (attention, tokens),
}


def check(build: Any, examples: Any, tolerance: float) -> None:
    """The member of the larger lam and the second seed against `fit`, weights and metrics."""
    options: dict[str, Any] = {"loss": mse, "metrics": ["mae"], "epochs": EPOCHS}
    result = l2keras.sweep(
        build, LAMS, *examples, optimizer=sgd(), batch_size=BATCH, seeds=SEEDS, verbose=0,
        validation_data=examples, **options,
    )  # fmt: skip
    model, history = alone(
        build, examples, sgd(), lam=LAMS[1], seed=SEEDS[1], validation_data=examples, **options
    )
    member = result.members[3]
    assert (member.lam, member.seed) == (LAMS[1], SEEDS[1])
    expected = model.get_weights()
    assert distance(result.weights[3], expected) < tolerance
    assert distance(result.weights[1], expected) > 0.01  # lam = 0: doing nothing would fail
    assert distance(result.weights[2], expected) > 0.01  # the other seed
    # Keras' metrics are float32 on torch
    for name in ("loss", "mae", "val_loss", "val_mae"):
        assert result.history[name][3] == pytest.approx(
            history[name], rel=max(10 * tolerance, 1e-6)
        )


def sgd() -> Any:
    return keras.optimizers.SGD(0.1, momentum=0.5)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # nearest, on torch
@pytest.mark.parametrize("name", MODELS)
def test_each_member_equals_its_own_fit(name: str) -> None:
    """In float32 weights and metrics after five epochs are those of `fit`, to 1e-5."""
    build, examples = MODELS[name]
    check(build, examples(), 1e-5)


# What Keras computes in float32, whatever it is set to: on torch every product; on JAX means, tanh,
# sigmoid and softmax.
SINGLE = {
    "tensorflow": set(),
    "jax": {"convolutions", "recurrent", "recurrent convolution", "attention"},
    "torch": MODELS.keys() - {"dense"},
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", sorted(MODELS.keys() - SINGLE[BACKEND]))
def test_each_member_equals_its_own_fit_in_float64(name: str) -> None:
    """In float64, to 1e-10."""
    build, examples = MODELS[name]
    check(build, examples(), 1e-10)
