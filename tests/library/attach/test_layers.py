"""attach on the layers of Keras, on LoRA: which variables, and how they are saved."""

from __future__ import annotations

import warnings
import weakref
from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers

from l2keras import HalfL2, attach, detach
from l2keras._attach.changes import Setting, inherited
from tests.support.attachments import (
    IMAGE,
    LAM,
    SEQUENCE,
    attention,
    compiled,
    regularized,
)
from tests.support.models import dense_model


def grouped(inputs: Any) -> Any:
    return layers.GroupQueryAttention(2, 4, 2)(inputs, inputs)


LAYERS: dict[str, tuple[tuple[int, ...], Any, dict[str, int]]] = {
    "Dense": (SEQUENCE, layers.Dense(3), {"kernel": 1}),
    "EinsumDense": (SEQUENCE, layers.EinsumDense("abc,cd->abd", (None, 3)), {"kernel": 1}),
    "Conv2D": (IMAGE, layers.Conv2D(3, 2), {"kernel": 1}),
    "Conv2DTranspose": (IMAGE, layers.Conv2DTranspose(3, 2), {"kernel": 1}),
    "DepthwiseConv2D": (IMAGE, layers.DepthwiseConv2D(2), {"kernel": 1}),
    "SeparableConv2D": (
        IMAGE,
        layers.SeparableConv2D(3, 2),
        {"depthwise_kernel": 1, "pointwise_kernel": 1},
    ),
    "Embedding": ((4,), layers.Embedding(5, 3), {"embeddings": 1}),
    "LSTM": (SEQUENCE, layers.LSTM(3), {"kernel": 1, "recurrent_kernel": 1}),
    "SimpleRNN": (SEQUENCE, layers.SimpleRNN(3), {"kernel": 1, "recurrent_kernel": 1}),
    "ConvLSTM1D": ((3, 6, 2), layers.ConvLSTM1D(2, 2), {"kernel": 1, "recurrent_kernel": 1}),
    "RNN": (
        SEQUENCE,
        layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]),
        {"kernel": 2, "recurrent_kernel": 2},
    ),
    "Bidirectional": (
        SEQUENCE,
        layers.Bidirectional(layers.GRU(3)),
        {"kernel": 2, "recurrent_kernel": 2},
    ),
    "TimeDistributed": (SEQUENCE, layers.TimeDistributed(layers.Dense(2)), {"kernel": 1}),
    "SpectralNormalization": (
        IMAGE,
        layers.SpectralNormalization(layers.Conv2D(2, 1)),
        {"kernel": 1},
    ),
    "MultiHeadAttention": (SEQUENCE, attention, {"kernel": 4}),
    "GroupQueryAttention": (SEQUENCE, grouped, {"kernel": 4}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_are_saved_by_another_layer(name: str) -> None:
    """Each variable of each kind of layer keeps its regularizer in a copy, and none else does."""
    shape, layer, roles = LAYERS[name]
    if isinstance(layer, keras.Layer):
        layer = type(layer).from_config(layer.get_config())
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert attach(model, HalfL2(LAM)).persistent
    found = [role for role, _ in regularized(model)]
    assert {role: found.count(role) for role in found} == roles
    clone = keras.models.clone_model(model)
    assert regularized(clone) == regularized(model)
    detach(model)
    assert not regularized(model)
    assert not regularized(keras.models.clone_model(model))


def test_one_of_two_directions() -> None:
    """The forward half of a Bidirectional is saved without the backward half."""
    inputs = keras.Input(SEQUENCE)
    model = keras.Model(inputs, layers.Bidirectional(layers.GRU(3))(inputs))
    assert attach(model, HalfL2(LAM), include="*forward*/kernel").persistent
    assert regularized(keras.models.clone_model(model)) == [("kernel", LAM)]


def test_biases_and_normalization_when_asked_for() -> None:
    """include="*" takes bias, gamma and beta, and those are saved too."""
    model = keras.Sequential(
        [
            keras.Input(IMAGE),
            layers.Conv2D(3, 2),
            layers.BatchNormalization(),
            layers.LayerNormalization(),
            layers.PReLU(),
        ]
    )
    assert attach(model, HalfL2(LAM), include="*").persistent
    roles = ["kernel", "bias", "gamma", "beta", "gamma", "beta", "alpha"]
    assert regularized(keras.models.clone_model(model)) == [(role, LAM) for role in roles]


def test_lora(tmp_path: Path) -> None:
    """A and B share the kernel's attribute; the frozen kernel has no penalty here or there."""
    model = dense_model()
    model.get_layer("dense").enable_lora(2)
    assert attach(model, HalfL2(LAM)).persistent
    assert [role for role, _ in regularized(model)] == ["lora_kernel_a", "lora_kernel_b"]
    model.save(tmp_path / "lora.keras")
    loaded = keras.models.load_model(tmp_path / "lora.keras")
    assert len(loaded.losses) == len(model.losses) == 2
    detach(model)
    with pytest.warns(UserWarning, match="is lost .*dense/lora_kernel_a"):
        assert not attach(model, HalfL2(LAM), include="*lora_kernel_a").persistent


@pytest.mark.parametrize("before", [None, keras.regularizers.L1(0.25)])
@pytest.mark.parametrize("attention", [False, True])
def test_what_lora_inherited_comes_off_too(before: Any, attention: bool) -> None:
    """The pair that was made after `attach` gets what the kernel gets back, and is reported."""
    if attention:
        inputs = keras.Input(SEQUENCE)
        layer = layers.MultiHeadAttention(2, 3, kernel_regularizer=before)
        model = compiled(keras.Model(inputs, layer(inputs, inputs)))
        adapted = layer.query_dense
    else:
        model = compiled(dense_model(regularizer=before, use_bias=True))
        adapted = model.get_layer("dense")
    attach(model, HalfL2(2 * LAM), include="*bias")
    attach(model, HalfL2(LAM), include=["*kernel", "*bias"])
    adapted.enable_lora(2)
    pair = [adapted.lora_kernel_a, adapted.lora_kernel_b]
    assert [variable.regularizer.lam for variable in pair] == [LAM, LAM]
    changes = detach(model)
    reported = {change.path: change for change in changes if "lora" in change.path}
    for variable in pair:
        assert variable.regularizer is before
        assert reported[variable.path].layer == adapted.name
        assert reported[variable.path].previous.lam == LAM
        assert reported[variable.path].regularizer is before
    assert len(reported) == 2
    assert not [v.path for v in model.weights if isinstance(v.regularizer, HalfL2)]


def test_a_variable_inherits_from_the_attribute_of_its_role() -> None:
    """Kernel and bias had the same attached: in either order the pair gets the kernel's back."""
    layer = dense_model(use_bias=True).get_layer("dense")
    kernels, biases, ours = HalfL2(1.0), HalfL2(2.0), HalfL2(LAM)
    layer.kernel_regularizer = ours
    layer.enable_lora(2)
    settings = [
        Setting(weakref.ref(layer), "bias_regularizer", biases, ours),
        Setting(weakref.ref(layer), "kernel_regularizer", kernels, ours),
    ]
    for order in (settings, settings[::-1]):
        found = {change.path.rsplit("/")[-1]: change.previous for change, _ in inherited(order)}
        assert found == {"lora_kernel_a": kernels, "lora_kernel_b": kernels}


def test_what_lora_got_from_somebody_else_stays() -> None:
    """A pair with another regularizer than the attached one is left alone by `detach`."""
    model = dense_model()
    layer = model.get_layer("dense")
    attach(model, HalfL2(LAM))
    layer.enable_lora(2)
    layer.lora_kernel_a.regularizer = mine = HalfL2(LAM)
    assert [change.path.rsplit("/")[-1] for change in detach(model)] == ["kernel", "lora_kernel_b"]
    assert layer.lora_kernel_a.regularizer is mine
