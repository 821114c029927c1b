"""Which variables decay applies to, by default and by pattern."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest

import l2keras
from l2keras import masks
from tests.support.models import BACKEND, to_numpy

# layers, the shape of their input, the roles that decay applies to
DEFAULTS: dict[str, tuple[Callable[[], Any], tuple[int | None, ...], list[str]]] = {
    "Dense": (lambda: keras.layers.Dense(2), (4,), ["kernel"]),
    "Conv": (lambda: keras.layers.Conv2D(2, 3), (5, 5, 3), ["kernel"]),
    "DepthwiseConv": (lambda: keras.layers.DepthwiseConv2D(3), (5, 5, 3), ["kernel"]),
    "Embedding": (lambda: keras.layers.Embedding(7, 3), (4,), ["embeddings"]),
    "LSTM": (lambda: keras.layers.LSTM(2), (4, 3), ["kernel", "recurrent_kernel"]),
    "GRU, whose bias has rank 2": (
        lambda: keras.layers.GRU(2, reset_after=True),
        (4, 3),
        ["kernel", "recurrent_kernel"],
    ),
    "EinsumDense, whose bias may have rank 2": (
        lambda: keras.layers.EinsumDense("ab,bcd->acd", (2, 3), bias_axes="cd"),
        (4,),
        ["kernel"],
    ),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_kernels_and_embeddings_decay_and_biases_do_not(name: str) -> None:
    """Without patterns kernels and embeddings are chosen, of whatever rank a bias is."""
    make_layer, shape, roles = DEFAULTS[name]
    model = keras.Sequential([keras.Input(shape), make_layer()])
    assert [_role(variable) for variable in masks.select(model)] == roles


@pytest.mark.parametrize(
    "make_norm",
    [
        keras.layers.BatchNormalization,
        lambda: keras.layers.LayerNormalization(axis=[1, 2]),  # gamma and beta of rank 2
        keras.layers.RMSNormalization,
    ],
    ids=["batch", "layer over two axes", "rms"],
)
def test_normalization_does_not_decay_whatever_its_rank(make_norm: Callable[[], Any]) -> None:
    """Only the kernel beside a normalization layer is chosen."""
    model = keras.Sequential(
        [keras.Input((4, 3)), make_norm(), keras.layers.Dense(2, use_bias=False, name="dense")]
    )
    assert masks.select(model) == [model.get_layer("dense").kernel]


def test_attention_biases_of_rank_two_do_not_decay() -> None:
    """MultiHeadAttention has four kernels of rank 3 that decay and biases that do not."""
    inputs = keras.Input((4, 6))
    attention = keras.layers.MultiHeadAttention(num_heads=2, key_dim=3)
    model = keras.Model(inputs, attention(inputs, inputs))
    chosen = masks.select(model)
    assert [_role(variable) for variable in chosen] == ["kernel"] * 4
    assert sum(len(variable.shape) == 2 for variable in model.weights) == 3  # q, k and v biases


class Own(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """A layer of a user's own with one weight, that an attribute of it holds."""

    def __init__(self, attribute: str, shape: tuple[int, ...], name: str | None = None) -> None:
        super().__init__()
        self.given = attribute, shape, name

    def build(self, input_shape: Any) -> None:
        attribute, shape, name = self.given
        setattr(self, attribute, self.add_weight(shape=shape, name=name, initializer="ones"))

    def call(self, inputs: Any) -> Any:
        return inputs


class InstanceNorm(Own):
    """A normalization by its name."""


class Scale(Own):
    """A gain by its name."""


# On inputs of shape (4, 6): the layer, and whether its weight decays. Keras calls a weight without
# a name `variable`: the attribute tells what it is.
OWN: dict[str, tuple[Any, bool]] = {
    "gamma of rank 3": (Own("v", (1, 1, 6), "gamma"), False),
    "beta of the shape of an example": (Own("v", (4, 6), "beta"), False),
    "a bias of rank 2": (Own("v", (4, 6), "bias"), False),
    "b1": (Own("b1", (4, 6)), False),
    "a bias as PyTorch names it": (Own("v", (3, 5), "bias_ih"), False),
    "slopes by their attribute": (Own("slopes", (7, 3)), False),
    "a temperature in camel case": (Own("v", (2, 1), "logTemperature"), False),
    "the weight of a normalization": (InstanceNorm("weight", (4, 6), "weight"), False),
    "the weight of a gain": (Scale("w", (3, 6), "w"), False),
    "what broadcasts": (Own("v", (1, 1, 6)), False),
    "what meets each element": (Own("w", (4, 6)), False),
    "a class token": (Own("v", (1, 1, 6), "cls_token"), False),
    "a kernel of rank 2 to one unit": (Own("w", (6, 1)), True),
    "a kernel of one row": (Own("v", (1, 6), "kernel"), True),
    "a convolution of size 1": (Own("v", (1, 1, 6, 3), "filters"), True),
    "a kernel within a normalization": (InstanceNorm("v", (4, 6), "kernel"), True),
    "a kernel of scales": (Own("v", (4, 6), "scale_kernel"), True),
    "LoRA's second matrix": (Own("v", (2, 6), "lora_b"), True),
    "an embedding of one row": (Own("v", (1, 6), "embeddings"), True),
    "a position": (Own("v", (4, 6), "pos_embed"), True),
    "a matrix without a name": (Own("v", (6, 3)), True),
}


@pytest.mark.parametrize("case", OWN)
def test_role_and_not_rank_decides_in_layers_of_ones_own(case: str) -> None:
    """Names, the class of the layer and the shape tell kernels from gains, slopes and biases."""
    layer, decays = OWN[case]
    model = keras.Sequential([keras.Input((4, 6)), layer, keras.layers.Dense(1, name="head")])
    assert masks.select(model) == [*(layer.weights if decays else []), model.layers[-1].kernel]


@pytest.mark.skipif(BACKEND != "torch", reason="about a module of PyTorch")
def test_the_parameters_of_a_torch_module_have_their_names_there() -> None:
    """The weight of Linear decays; bias, and weight and bias of a LayerNorm of rank 2, do not."""
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(6, 3), torch.nn.LayerNorm([4, 3]))
    layer = keras.layers.TorchModuleWrapper(module)
    model = keras.Sequential([keras.Input((4, 6)), layer])
    [chosen] = masks.select(model)
    assert chosen.value is module[0].weight


def test_gains_and_slopes_of_rank_three_keep_their_values() -> None:
    """With learning rate 0.5 and lam 0.5 the kernel falls to 0.75; gamma and alpha stay 1."""
    gamma, alpha = Own("gamma", (1, 1, 6)), keras.layers.PReLU(alpha_initializer="ones")
    kernel = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((4, 6)), gamma, alpha, kernel])
    optimizer = keras.optimizers.SGD(0.5)
    with l2keras.WeightDecay(0.5).in_step(model, optimizer):
        zeros = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
        optimizer.apply(zeros, model.trainable_variables)
    means = [float(to_numpy(v).mean()) for v in model.trainable_variables]
    assert means == pytest.approx([1.0, 1.0, 0.75])
    with l2keras.WeightDecay(0.5, include="*alpha").in_step(model, optimizer):
        optimizer.apply(zeros, model.trainable_variables)
    assert float(to_numpy(alpha.alpha).mean()) == pytest.approx(0.75)


def test_frozen_layers_do_not_decay() -> None:
    """A layer that is not trainable is left out until it is unfrozen."""
    model = _encoder_and_head()
    model.get_layer("encoder").trainable = False
    assert masks.select(model) == [model.get_layer("head").kernel]
    model.get_layer("encoder").trainable = True
    assert len(masks.select(model)) == 2


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (None, "*head*", ["mlp/encoder/kernel"]),
        ("*head*", None, ["mlp/head/kernel", "mlp/head/bias"]),
        (["*/head/kernel"], None, ["mlp/head/kernel"]),
        (["*/head/*", "*/encoder/bias"], ["*kernel"], ["mlp/encoder/bias", "mlp/head/bias"]),
        ("mlp/*/kernel", "mlp/enc?der/*", ["mlp/head/kernel"]),
        ("*", None, ["mlp/encoder/kernel", "mlp/encoder/bias", "mlp/head/kernel", "mlp/head/bias"]),
        (lambda v: v.shape[-1] == 2, None, ["mlp/head/kernel", "mlp/head/bias"]),
        (None, lambda v: "head" in v.path, ["mlp/encoder/kernel"]),
        (lambda v: "bias" in v.path, "*head*", ["mlp/encoder/bias"]),
    ],
)
def test_patterns_and_predicates_choose(include: Any, exclude: Any, expected: list[str]) -> None:
    """`include` replaces the default rule, `exclude` takes away; both take globs or a predicate."""
    chosen = masks.select(_encoder_and_head(), include, exclude)
    assert [variable.path for variable in chosen] == expected


@pytest.mark.parametrize("name", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_names_the_nearest_path(name: str) -> None:
    """A mistyped path raises, the one meant comes first in the message."""
    pattern = "mlp/haed/kernel"
    with pytest.raises(ValueError, match=f"Each pattern in `{name}` must match") as caught:
        masks.select(_encoder_and_head(), **{name: ["*", pattern][name == "exclude" :]})
    message = str(caught.value)
    assert f"Received: {name}='{pattern}', which matches none." in message
    assert "The nearest paths are: mlp/head/kernel, " in message


def test_a_pattern_may_match_what_does_not_train() -> None:
    """A glob that meets frozen weights only is no typing error, but selects none of them."""
    model = _encoder_and_head()
    model.get_layer("encoder").trainable = False
    chosen = masks.select(model, exclude="*/encoder/*")
    assert chosen == [model.get_layer("head").kernel]


@pytest.mark.parametrize(
    ("include", "exclude"), [("*kernel", "*"), (lambda v: False, None), (None, lambda v: True)]
)
def test_an_empty_selection_raises(include: Any, exclude: Any) -> None:
    """Decay of nothing is an error that lists what could be decayed."""
    with pytest.raises(
        ValueError, match=r"^At least one trainable variable must be selected\. Received"
    ) as caught:
        masks.select(_encoder_and_head(), include, exclude)
    assert "mlp/encoder/kernel, mlp/encoder/bias, mlp/head/kernel" in str(caught.value)


def test_a_model_without_trainable_weights_raises() -> None:
    """A frozen model has nothing to decay, and the error says so."""
    model = _encoder_and_head()
    model.trainable = False
    with pytest.raises(ValueError, match="trainable variables of the model: none"):
        masks.select(model)


@pytest.mark.parametrize("patterns", [3, ["*", 3], {"*"}, b"*"])
def test_other_types_of_pattern_are_refused(patterns: Any) -> None:
    """A pattern is a glob, a sequence of globs or a predicate; the error shows how to write one."""
    with pytest.raises(TypeError, match="`include` must be a glob pattern") as caught:
        masks.check_patterns(patterns, "include")
    assert f"Received: include={patterns!r}." in str(caught.value)
    assert 'include=["*/embeddings"]' in str(caught.value)


def _encoder_and_head() -> Any:
    layers = [keras.layers.Dense(3, name="encoder"), keras.layers.Dense(2, name="head")]
    return keras.Sequential([keras.Input((4,)), *layers], name="mlp")


def _role(variable: Any) -> str:
    return str(variable.path).rsplit("/", 1)[-1]
