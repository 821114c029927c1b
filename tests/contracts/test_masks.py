"""Which variables decay applies to, by default and by pattern."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest

from l2keras import masks

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
    """Without patterns the trainable variables of rank >= 2 that are not biases are chosen."""
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
