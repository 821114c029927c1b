"""What the audit says about each variable's role, and about every layer of Keras."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import pytest
from keras import layers

import l2keras
from l2keras import masks
from l2keras._keras.variables import model_variables
from l2keras._roles import role_of
from tests.contracts.test_masks import Own
from tests.support.models import find

SEQUENCE, IMAGE = (4, 6), (8, 8, 3)

# Every layer of Keras with weights that train, sizes of 1 where there may be: shape of the input.
WITH_WEIGHTS: dict[str, tuple[tuple[int, ...], Any]] = {
    "PReLU": (IMAGE, layers.PReLU),
    "AdditiveAttention": (SEQUENCE, lambda: twice(layers.AdditiveAttention())),
    "Attention": (
        SEQUENCE,
        lambda: twice(layers.Attention(use_scale=True, score_mode="concat")),
    ),
    "GroupQueryAttention": (SEQUENCE, lambda: twice(layers.GroupQueryAttention(2, 4, 2))),
    "MultiHeadAttention": (SEQUENCE, lambda: twice(layers.MultiHeadAttention(2, 3))),
    "Conv1D": ((4, 1), lambda: layers.Conv1D(5, 1)),
    "Conv1DTranspose": (SEQUENCE, lambda: layers.Conv1DTranspose(1, 1)),
    "Conv2D": (IMAGE, lambda: layers.Conv2D(2, 1)),
    "Conv2DTranspose": (IMAGE, lambda: layers.Conv2DTranspose(1, 1)),
    "Conv3D": ((*IMAGE, 1), lambda: layers.Conv3D(2, 1)),
    "Conv3DTranspose": ((*IMAGE, 1), lambda: layers.Conv3DTranspose(2, 1)),
    "DepthwiseConv1D": (SEQUENCE, lambda: layers.DepthwiseConv1D(1)),
    "DepthwiseConv2D": (IMAGE, lambda: layers.DepthwiseConv2D(1)),
    "SeparableConv1D": (SEQUENCE, lambda: layers.SeparableConv1D(1, 1)),
    "SeparableConv2D": (IMAGE, lambda: layers.SeparableConv2D(1, 1)),
    "Dense": ((1,), lambda: layers.Dense(4)),
    "EinsumDense": (
        SEQUENCE,
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"),
    ),
    "Embedding": ((4,), lambda: layers.Embedding(5, 1)),
    "ReversibleEmbedding": ((4,), lambda: layers.ReversibleEmbedding(5, 3, tie_weights=False)),
    "BatchNormalization": (SEQUENCE, layers.BatchNormalization),
    "GroupNormalization": (SEQUENCE, lambda: layers.GroupNormalization(2)),
    "LayerNormalization": (IMAGE, lambda: layers.LayerNormalization(axis=[1, 2, 3])),
    "RMSNormalization": (SEQUENCE, lambda: layers.RMSNormalization(axis=[1, 2])),
    "SpectralNormalization": (
        IMAGE,
        lambda: layers.SpectralNormalization(layers.Conv2D(2, 1)),
    ),
    "Bidirectional": (SEQUENCE, lambda: layers.Bidirectional(layers.GRU(1))),
    "ConvLSTM1D": ((3, 6, 2), lambda: layers.ConvLSTM1D(1, 1)),
    "ConvLSTM2D": ((3, 4, 4, 2), lambda: layers.ConvLSTM2D(1, 1)),
    "ConvLSTM3D": ((3, 4, 4, 4, 2), lambda: layers.ConvLSTM3D(1, 1)),
    "GRU": ((4, 1), lambda: layers.GRU(1)),
    "LSTM": ((4, 1), lambda: layers.LSTM(1)),
    "SimpleRNN": ((4, 1), lambda: layers.SimpleRNN(1)),
    "RNN": (
        SEQUENCE,
        lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2), layers.SimpleRNNCell(1)]),
    ),
    "TimeDistributed": (SEQUENCE, lambda: layers.TimeDistributed(layers.Dense(2))),
}

# Cells, which RNN above has, and weights that do not train.
ELSEWHERE = {"GRUCell", "LSTMCell", "SimpleRNNCell", "Normalization", "STFTSpectrogram"}


def twice(layer: Any) -> Any:
    """The attention of a sequence to itself."""
    takes_list = "inputs" in inspect.signature(layer.call).parameters
    return lambda x: layer([x, x]) if takes_list else layer(x, x)


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_kernels_and_embeddings_of_every_layer_decay_and_nothing_else(name: str) -> None:
    """The default rule chooses what Keras names kernel or embeddings, and guesses nowhere."""
    shape, make = WITH_WEIGHTS[name]
    inputs = keras.Input(shape)
    model = keras.Model(inputs, make()(inputs))
    entries = [entry for entry in model_variables(model) if entry.variable.trainable]
    roles = [role_of(entry) for entry in entries]
    assert roles
    assert not any(role.is_guess for role in roles)
    expected = [entry.role.endswith(("kernel", "embeddings")) for entry in entries]
    assert [role.decays for role in roles] == expected


def test_no_layer_of_keras_is_forgotten() -> None:
    """A layer of Keras that adds weights, or one of its bases does, is in the table."""
    every = [one for one in vars(layers).values() if inspect.isclass(one)]
    adding = {one.__name__ for one in every if any(map(_adds_weights, one.__mro__))}
    assert len(adding) > 20
    assert adding <= WITH_WEIGHTS.keys() | ELSEWHERE


def _adds_weights(layer: type) -> bool:
    methods = [vars(layer).get(name) for name in ("__init__", "build")]
    codes = [getattr(method, "__code__", None) for method in methods]
    return any("add_weight" in code.co_names for code in codes if code)


def own_model(*own: Any) -> Any:
    model = keras.Sequential([keras.Input((4, 6)), *own, layers.Dense(1, name="head")], name="own")
    model.compile(keras.optimizers.SGD(0.5), "mse")
    return model


def test_a_row_says_what_was_decided_and_why() -> None:
    """The reason names what decided; what a WeightDecay selects otherwise is said too."""
    model = own_model(Own("v", (1, 1, 6), "gamma"), Own("w", (6, 6)))
    reasons = [row.reason for row in l2keras.audit(model).rows]
    assert reasons == [
        "left out: named gamma",
        "decays: shape 6x6 multiplies the input",
        "decays: named kernel",
        "left out: named bias",
    ]
    patterns = l2keras.WeightDecay(0.1, include=["*gamma", "*kernel"])
    rows = l2keras.audit(model, [patterns]).rows
    assert rows[0].reason == "left out: named gamma; but selected by include="
    assert rows[1].reason == "decays: shape 6x6 multiplies the input; but not selected"
    assert rows[2].reason == "decays: named kernel"
    model.trainable = False
    assert {row.reason for row in l2keras.audit(model).rows} == {"not trained"}


@pytest.mark.parametrize(
    ("shape", "decision"),
    [
        ((1, 1, 6), "not decayed, as gains and biases are not"),
        ((4, 6), "not decayed, as gains and biases are not"),
        ((7, 3), "decayed, as kernels are"),
        ((6, 3), "decayed, as kernels are"),
    ],
)
def test_a_guess_is_a_finding_where_the_default_rule_selects(
    shape: tuple[int, ...], decision: str
) -> None:
    """A weight without a telling name is told of, unless patterns choose, or nothing decays."""
    model = own_model(Own("v", shape))
    [found] = find(model, "role-guessed", [l2keras.WeightDecay(0.1)])
    assert (found.severity, "they are " + decision in found.message) == ("info", True)
    assert model.layers[0].weights[0].path in found.message
    assert not find(model, "role-guessed", [l2keras.WeightDecay(0.1, include="*")])
    assert not find(model, "role-guessed")
    assert not find(own_model(), "role-guessed", [l2keras.WeightDecay(0.1)])


def test_a_slope_of_rank_three_that_the_optimizer_decays() -> None:
    """PReLU's alpha under the optimizer's weight_decay has a finding; without a name, a guess."""
    optimizer = keras.optimizers.SGD(0.5, weight_decay=0.1)
    model = own_model(layers.PReLU(name="slopes"), Own("v", (1, 1, 6)))
    model.compile(optimizer, "mse")
    [found] = find(model, "scale-decayed")
    assert (
        "Gains and slopes are decayed, by optimizer: 1 variable (own/slopes/alpha)" in found.message
    )
    [found] = find(model, "role-guessed")
    assert "decayed, though gains or biases by their shape" in found.message


def test_the_reasons_are_in_the_text_on_demand() -> None:
    """The table stays as it is; `reasons=True` adds a line for each variable, in 80 columns."""
    report = l2keras.audit(own_model(Own("v", (1, 1, 6), "gamma")))
    assert "named gamma" not in report.to_text(80)
    lines = report.to_text(80, reasons=True).splitlines()
    assert f"{report.rows[0].path}  left out: named gamma" in lines
    assert max(map(len, lines)) <= 80


def test_attach_and_sweep_select_by_the_same_rule() -> None:
    """attach leaves gamma of rank 3 out, and puts the regularizer on the kernel of one unit."""
    model = own_model(Own("v", (1, 1, 6), "gamma"))
    assert [change.path for change in l2keras.attach(model, "l2").changes] == ["own/head/kernel"]
    assert masks.select(model) == [model.get_layer("head").kernel]
