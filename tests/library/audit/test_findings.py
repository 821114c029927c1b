"""Findings about what decays: the model that has the mistake, and the one that has not."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._keras.variables import ModelVariable
from l2keras._roles import role_of
from tests.support.models import BACKEND, compiled, dense_model, find, fit_zeros, to_numpy

SGD = keras.optimizers.SGD


def deep_model(*layers: Any) -> Any:
    return keras.Sequential([keras.Input((4,)), *layers], name="deep")


def test_a_plain_model_has_no_finding() -> None:
    """Kernels decayed by one source, and nothing else, is what there is nothing to say about."""
    model = compiled(dense_model(use_bias=True), SGD(0.5))
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss")
    assert l2keras.audit(model, [l2keras.WeightDecay(0.1), stopping]).findings == ()
    model = compiled(dense_model(use_bias=True, regularizer=l2keras.HalfL2(0.1)), "adam")
    assert l2keras.audit(model).findings == ()


@pytest.mark.parametrize(
    ("regularizer", "weight_decay", "callbacks", "named"),
    [
        ("l2", 0.1, (), "regularizer and optimizer"),
        ("l2", None, [l2keras.WeightDecay(0.1)], "regularizer and callback"),
        (None, 0.1, [l2keras.WeightDecay(0.1)], "optimizer and callback"),
        (None, None, [l2keras.WeightDecay(0.1)] * 2, "callback and callback"),
        ("l2", None, (), None),
        (keras.regularizers.OrthogonalRegularizer(), 0.1, (), None),
    ],
)
def test_decayed_twice(
    regularizer: Any, weight_decay: float | None, callbacks: Any, named: str | None
) -> None:
    """Any two sources on one kernel; a penalty that is no decay does not count."""
    model = compiled(dense_model(regularizer=regularizer), SGD(0.5, weight_decay=weight_decay))
    found = find(model, "decayed-twice", callbacks)
    assert len(found) == (named is not None)
    if named:
        assert f"Decayed by {named}: 1 variable (sequential/dense/kernel)" in found[0].message
        assert found[0].severity == "error"


class PositionEmbedding(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """Like the one of keras_hub: one matrix, added to the input."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(name="table", shape=shape[1:])

    def call(self, inputs: Any) -> Any:
        return inputs + self.table


class Scale(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """A gain for each feature, as ConvNeXt has."""

    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(name="gain", shape=(shape[-1],))

    def call(self, inputs: Any) -> Any:
        return inputs * self.gain


def test_what_should_not_be_decayed() -> None:
    """Biases, norm and positional parameters and gains have a finding each."""
    inputs = keras.Input((4, 8))
    outputs = keras.layers.LayerNormalization(name="norm")(PositionEmbedding(name="where")(inputs))
    outputs = keras.layers.Dense(8, name="dense")(Scale(name="scale")(outputs))
    model = compiled(keras.Model(inputs, outputs), SGD(0.5, weight_decay=0.1))
    report = l2keras.audit(model)
    messages = {f.code: f.message for f in report.findings}
    assert "1 variable (dense/bias)" in messages["bias-decayed"]
    assert "2 variables (norm/gamma, norm/beta)" in messages["norm-decayed"]
    assert "1 variable (where/table)" in messages["positional-decayed"]
    assert "1 variable (scale/gain)" in messages["vector-decayed"]
    by_callback = l2keras.audit(compiled(model, SGD(0.5)), [l2keras.WeightDecay(0.1)])
    assert by_callback.codes() == ["positional-decayed"]  # the default rule knows shapes only


@pytest.mark.parametrize(
    ("name", "is_positional"),
    [
        ("pos_embed", True),
        ("position_embeddings", True),
        ("positional_encoding_1", True),
        ("pos_embedding_2", True),
        ("relative_position_bias_table", True),
        ("rel_pos_h", True),
        ("cls_token", True),
        ("register_tokens", True),
        ("token_embedding", False),
        ("pos_tag_embedding", False),
        ("composition_embedding", False),
        ("position_wise", False),
        ("token_and_position_embedding", False),
        ("embeddings", False),
        ("tokens", False),
    ],
)
def test_positions_by_name(name: str, is_positional: bool) -> None:
    """Names of learned positions and class tokens are known, and those that only look like it."""
    layer = keras.layers.Layer(name="block")
    variable = layer.add_weight(name=name, shape=(4, 8))
    kind = role_of(ModelVariable(variable, layer)).kind
    assert kind == ("positional" if is_positional else "kernel")


def test_a_kernel_left_out() -> None:
    """A Dense kernel without a regularizer, while the two others have one."""
    dense = keras.layers.Dense
    layers = [dense(4, kernel_regularizer="l2"), dense(4, kernel_regularizer="l2")]
    assert not find(deep_model(*layers), "kernel-not-decayed")
    [found] = find(deep_model(*layers, dense(4, name="last")), "kernel-not-decayed")
    assert "2 of 3 Dense kernel variables are: 1 variable (deep/last/kernel)" in found.message


def one_step(dtype: str, lam: float) -> tuple[Any, Any, Any]:
    """The report, and the kernel before and after one step with a zero gradient at eta = 1."""
    keras.config.set_dtype_policy(dtype)
    model = compiled(dense_model(64, 64), SGD(1.0, weight_decay=lam), jit_compile=False)
    report = l2keras.audit(model)
    kernel = model.weights[0]
    before = to_numpy(keras.ops.cast(kernel, "float32"))
    fit_zeros(model, 1)
    return report, before, to_numpy(keras.ops.cast(kernel, "float32"))


@pytest.mark.parametrize(
    ("dtype", "gap"), [("bfloat16", 2.0**-7), ("float16", 2.0**-10), ("float32", 2.0**-23)]
)
def test_decay_below_half_a_unit_in_the_last_place(dtype: str, gap: float) -> None:
    """Below a quarter of the gap no weight changes, below a half a part, above it all: as told."""
    report, before, after = one_step(dtype, gap / 8)
    [found] = [f for f in report.findings if f.code == "decay-lost-to-rounding"]
    assert "changes no weight" in found.message
    assert np.array_equal(before, after)

    report, before, after = one_step(dtype, gap * 3 / 8)
    [found] = [f for f in report.findings if f.code == "decay-lost-to-rounding"]
    assert "is rounded up or away" in found.message
    if BACKEND != "torch":  # which rounds 1 - s first, in float32 to 1 - gap / 2
        assert 0.1 < np.mean(before != after) < 0.9

    report, before, after = one_step(dtype, gap * 0.6)
    assert "decay-lost-to-rounding" not in report.codes()
    assert np.all(before != after)


def test_a_penalty_below_half_a_unit_is_told_in_16_bits() -> None:
    """A penalty joins the gradient: alone it is lost; in float32 that is not told."""
    keras.config.set_dtype_policy("bfloat16")
    model = compiled(dense_model(regularizer=l2keras.HalfL2(1e-4)), SGD(0.5))
    [found] = find(model, "decay-lost-to-rounding")
    assert "on its own changes no weight" in found.message
    by_callback = compiled(dense_model(), SGD(0.5))
    assert not find(by_callback, "decay-lost-to-rounding", [l2keras.WeightDecay(1e-4)])
    keras.config.set_dtype_policy("float32")
    model = compiled(dense_model(regularizer=l2keras.HalfL2(1e-9)), SGD(0.5))
    assert not find(model, "decay-lost-to-rounding")


def test_the_peak_of_a_schedule_counts_for_rounding() -> None:
    """A warm-up from 0 is not told of, although at its first step nothing is decayed."""
    warm_up = keras.optimizers.schedules.CosineDecay(0.0, 10, warmup_target=0.5, warmup_steps=5)
    model = compiled(dense_model(), SGD(warm_up, weight_decay=0.1))
    assert l2keras.audit(model).rows[0].learning_rate == 0
    assert not find(model, "decay-lost-to-rounding")


def test_a_frozen_variable_with_a_penalty() -> None:
    """Keras leaves it out of the loss; the kernel under LoRA is not told of."""
    model = dense_model(regularizer="l2")
    assert not find(model, "frozen-with-penalty")
    model.get_layer("dense").trainable = False
    [found] = find(model, "frozen-with-penalty")
    assert "sequential/dense/kernel" in found.message
    assert not model.losses
    model = dense_model(regularizer="l2")
    model.get_layer("dense").enable_lora(2)
    assert not find(model, "frozen-with-penalty")


def embedding_model(optimizer: Any, regularizer: Any = None) -> Any:
    layer = keras.layers.Embedding(9, 2, embeddings_regularizer=regularizer, name="words")
    return compiled(keras.Sequential([keras.Input((3,)), layer]), optimizer)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only there are gradients of embeddings sparse")
def test_embeddings_made_dense() -> None:
    """A regularizer or the optimizer's decay on an Embedding; without, its gradient is sparse."""
    for model in (embedding_model("sgd", "l2"), embedding_model(SGD(0.5, weight_decay=0.1))):
        [found] = find(model, "embedding-made-dense")
        assert "words/embeddings" in found.message
    assert not find(embedding_model("sgd"), "embedding-made-dense")
    assert not find(embedding_model("sgd"), "embedding-made-dense", [l2keras.WeightDecay(0.1)])


@pytest.mark.skipif(BACKEND == "tensorflow", reason="there it is told of")
def test_embeddings_are_dense_elsewhere() -> None:
    """On JAX and torch the gradient of an embedding is dense anyway."""
    assert not find(embedding_model("sgd", "l2"), "embedding-made-dense")
