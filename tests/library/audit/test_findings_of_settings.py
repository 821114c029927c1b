"""Findings about settings that do nothing, will be lost, or will be refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._keras.own_decay import excluded_too_late
from tests.support.models import BACKEND, compiled, dense_model, find, fit_zeros, to_numpy

SGD = keras.optimizers.SGD


def kernel_decay(lam: float = 1e-4) -> Any:
    """SGD with weight decay of kernels only."""
    optimizer = SGD(0.5, weight_decay=lam)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def test_weight_decay_with_an_optimizer_that_decays_is_refused() -> None:
    """What `fit` will raise is told before, in the same words."""
    model = compiled(dense_model(), keras.optimizers.AdamW(0.5))
    [found] = find(model, "callback-refused", [l2keras.WeightDecay(0.1)])
    assert "AdamW(weight_decay=0.004)" in found.message
    with pytest.raises(ValueError, match="applied twice"):
        fit_zeros(model, 1, [l2keras.WeightDecay(0.1)])


@pytest.mark.parametrize(
    "decay",
    [
        l2keras.WeightDecay(0.1, exclude="*/nothing"),
        l2keras.WeightDecay(0.1, exclude="*"),
    ],
)
def test_a_selection_that_fails_is_a_finding(decay: Any) -> None:
    """A pattern that matches nothing, and an empty selection, do not stop the audit."""
    [found] = find(compiled(dense_model(), SGD(0.5)), "callback-refused", [decay])
    assert found.severity == "error"
    assert "WeightDecay(0.1" in found.message


def test_names_that_match_nothing() -> None:
    """A name given to exclude_from_weight_decay that no variable has, and a stranger's variable."""
    model = compiled(dense_model(use_bias=True), SGD(0.5, weight_decay=0.1))
    model.optimizer.exclude_from_weight_decay(var_names=["bias", "(gamma|beta)", "[|x]z"])
    [found] = find(model, "exclude-matches-nothing")
    assert "with var_names='(gamma|beta)', var_names='[|x]z'." in found.message
    model.optimizer.exclude_from_weight_decay(var_names=["gamma"])
    assert find(model, "exclude-matches-nothing")
    assert not find(model, "exclusions-not-saved")
    model.optimizer.exclude_from_weight_decay(var_list=[dense_model().weights[0]])
    [found] = find(model, "exclude-matches-nothing")
    assert "1 of var_list" in found.message
    model.optimizer.exclude_from_weight_decay(var_list=[model.weights[0]], var_names=["bias"])
    assert not find(model, "exclude-matches-nothing")


def test_a_layer_name_matches_on_tensorflow_only() -> None:
    """Keras searches the name of the tf.Variable there, elsewhere `kernel`: so does the audit."""
    model = compiled(dense_model(), SGD(0.5, weight_decay=0.1))
    model.optimizer.exclude_from_weight_decay(var_names=["dense"])
    on_tensorflow = BACKEND == "tensorflow"
    assert bool(find(model, "exclude-matches-nothing")) is not on_tensorflow
    before = to_numpy(model.weights[0])
    fit_zeros(model, 1)
    assert np.array_equal(to_numpy(model.weights[0]), before) is on_tensorflow


def test_exclusions_of_everything() -> None:
    """A name that is in all of them leaves nothing to decay."""
    model = compiled(dense_model(use_bias=True), SGD(0.5, weight_decay=0.1))
    model.optimizer.exclude_from_weight_decay(var_names=["[ei]"])
    [found] = find(model, "all-excluded")
    assert "of SGD decays nothing, because it excludes all 2 variables" in found.message
    assert not find(model, "exclusions-not-saved")


def test_exclusions_that_load_model_loses(tmp_path: Path) -> None:
    """Told before saving; after loading the biases are decayed, and told again."""
    model = compiled(dense_model(use_bias=True), kernel_decay())
    [found] = find(model, "exclusions-not-saved")
    assert "1 variable (sequential/dense/bias)" in found.message
    assert not find(model, "no-exclusions")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not find(loaded, "exclusions-not-saved")
    [found] = find(loaded, "no-exclusions")
    assert "load_model dropped them; 1 variable (dense/bias)" in found.message  # its path is new
    rows = {row.role: row.lam for row in l2keras.audit(loaded).rows}
    assert rows == {"kernel": 1e-4, "bias": 1e-4}


def test_settings_on_a_wrapper_do_nothing() -> None:
    """Exclusions set on the LossScaleOptimizer that mixed_float16 brings are ignored by Keras."""
    optimizer = keras.optimizers.LossScaleOptimizer(SGD(0.5, weight_decay=0.1), initial_scale=1.0)
    model = compiled(dense_model(use_bias=True), optimizer)
    assert not find(model, "wrapper-ignored")
    model.optimizer.exclude_from_weight_decay(var_names=["kernel"])
    [found] = find(model, "wrapper-ignored")
    assert "LossScaleOptimizer" in found.message
    before = to_numpy(model.weights[0])
    fit_zeros(model, 1)
    assert np.allclose(to_numpy(model.weights[0]), 0.95 * before)


def test_exclusions_after_the_step_was_compiled() -> None:
    """They do nothing until compile is called again; on torch the step is not compiled."""
    model = compiled(dense_model(use_bias=True), SGD(0.5, weight_decay=0.1))
    fit_zeros(model, 1)
    assert not find(model, "exclusions-too-late")
    model.optimizer.exclude_from_weight_decay(var_names=["kernel"])
    found = find(model, "exclusions-too-late")
    before = to_numpy(model.weights[0])
    fit_zeros(model, 1)
    acts = np.array_equal(to_numpy(model.weights[0]), before)
    assert bool(found) is not acts
    assert acts is (BACKEND == "torch")
    model.compile(model.optimizer, "mse")
    assert not find(model, "exclusions-too-late")
    assert excluded_too_late(model.optimizer) is not acts


def test_a_regularizer_on_the_layer_alone_or_on_the_variable_alone() -> None:
    """Each does half the job: one acts after loading only, the other is lost by saving."""
    model = dense_model()
    layer = model.get_layer("dense")
    layer.kernel_regularizer = keras.regularizers.L2(0.1)
    assert not model.losses
    [found] = find(model, "regularizer-not-on-variable")
    assert "sequential/dense/kernel" in found.message
    assert "attach" in found.remedy
    layer.kernel.regularizer = keras.regularizers.L2(0.1)
    assert not find(model, "regularizer-not-on-variable")
    layer.kernel.regularizer = l2keras.HalfL2(0.1)
    assert find(model, "regularizers-differ")
    layer.kernel_regularizer = None
    assert find(model, "regularizer-not-on-layer")
    assert l2keras.audit(model).rows[0].lam == 0.1


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (keras.layers.Embedding(5, 3, embeddings_regularizer="l2"), (4,)),
        (keras.layers.SeparableConv1D(3, 2, pointwise_regularizer="l2"), (4, 3)),
        (keras.layers.DepthwiseConv1D(2, depthwise_regularizer="l2"), (4, 3)),
        (keras.layers.GRU(3, recurrent_regularizer="l2"), (4, 3)),
        (keras.layers.MultiHeadAttention(2, 3, kernel_regularizer="l2"), (4, 3)),
        (keras.layers.PReLU(alpha_regularizer="l2"), (4, 3)),
        (keras.layers.BatchNormalization(gamma_regularizer="l2"), (4, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_as_keras_makes_them_agree_with_their_variables(layer: Any, shape: Any) -> None:
    """No layer of Keras is told of a mismatch; without the variable's regularizer each is."""
    inputs = keras.Input(shape)
    both = isinstance(layer, keras.layers.MultiHeadAttention)
    model = keras.Model(inputs, layer(inputs, inputs) if both else layer(inputs))
    codes = l2keras.audit(model).codes()
    assert not [code for code in codes if code.startswith("regularizer")]
    for variable in model.weights:
        variable.regularizer = None
    assert "regularizer-not-on-variable" in l2keras.audit(model).codes()


@pytest.mark.parametrize(
    ("callback", "told"),
    [
        (keras.callbacks.EarlyStopping(), "val_data_loss"),
        (keras.callbacks.ReduceLROnPlateau(monitor="loss"), '"data_loss"'),
        (keras.callbacks.ModelCheckpoint("x.keras", save_best_only=True), "val_data_loss"),
        (keras.callbacks.ModelCheckpoint("x.keras"), None),
        (keras.callbacks.EarlyStopping(monitor="val_data_loss"), None),
        (keras.callbacks.EarlyStopping(monitor="val_accuracy"), None),
    ],
)
def test_a_penalty_inside_the_monitored_loss(callback: Any, told: str | None) -> None:
    """Told where a callback acts on loss or val_loss and a penalty is in it."""
    found = find(dense_model(regularizer="l2"), "penalty-in-monitor", [callback])
    assert len(found) == (told is not None)
    if told:
        assert type(callback).__name__ in found[0].message
        assert told in found[0].remedy
    assert not find(dense_model(), "penalty-in-monitor", [callback])


def test_attach_under_lora_is_no_mismatch() -> None:
    """attach sets the pair and the layer; the frozen kernel has no use for it."""
    model = dense_model()
    model.get_layer("dense").enable_lora(2)
    l2keras.attach(model, l2keras.HalfL2(0.5))
    assert not find(model, "regularizer-not-on-variable")
    assert not find(model, "regularizer-not-on-layer")
