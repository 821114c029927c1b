"""Every kind of model can be audited, and none is changed by it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from tests.support import factorial
from tests.support.applications import check_application
from tests.support.models import (
    BACKEND,
    dense_model,
    excluding,
    fit_zeros,
    flat_loss,
    mixed_model,
    to_numpy,
)


def test_lora_pairs_inherit_and_the_frozen_kernel_does_not_count() -> None:
    """After enable_lora A and B carry the kernel's regularizer, as the loss of Keras has it."""
    model = dense_model(2, 3, regularizer=l2keras.HalfL2(0.5))
    model.get_layer("dense").enable_lora(4)
    rows = {row.role: row for row in l2keras.audit(model).rows}
    lams = {role: row.lam for role, row in rows.items()}
    assert lams == {"kernel": 0.0, "lora_kernel_a": 0.5, "lora_kernel_b": 0.5}
    assert len(model.losses) == 2
    assert not rows["kernel"].trainable


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize`")  # Keras' own
def test_a_quantized_model() -> None:
    """After quantize("int8") the kernel is a frozen int8 variable, and the bias is left."""
    model = dense_model(2, 3, use_bias=True, regularizer="l2")
    model.quantize("int8")
    report = l2keras.audit(model)
    rows = {row.role: row for row in report.rows}
    assert (rows["kernel"].dtype, rows["kernel"].trainable) == ("int8", False)
    assert rows["bias"].trainable
    assert report.totals["decayed"]["tensors"] == 0
    assert "regularizer-not-on-variable" not in report.codes()


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize`")  # Keras' own
def test_the_scales_of_float8_are_not_decayed() -> None:
    """They are trainable for Keras, but overwritten with their gradient, which comes first."""
    model = dense_model(2, 3, use_bias=True)
    model.quantize("float8")
    model.compile(keras.optimizers.SGD(0.5, weight_decay=0.2), flat_loss)
    report = l2keras.audit(model)
    assert len(report.rows) > 2
    assert [row.role for row in report.rows if row.decayed] == ["kernel", "bias"]
    assert "vector-decayed" not in report.codes()


def test_a_shared_layer_is_counted_once() -> None:
    """A layer called twice, and inside a nested model too, has one row, as Keras has one loss."""
    shared = keras.layers.Dense(3, kernel_regularizer=l2keras.HalfL2(0.5), use_bias=False)
    nested = keras.Sequential([keras.Input((3,)), shared])
    inputs = keras.Input((3,))
    model = keras.Model(inputs, nested(shared(shared(inputs))))
    report = l2keras.audit(model)
    assert [row.lam for row in report.rows] == [0.5]
    assert report.totals["all"] == {"tensors": 1, "parameters": 9}
    assert len(model.losses) == 1


class Subclassed(keras.Model):  # type: ignore[misc, unused-ignore]
    """A model with a nested model and a layer it never calls."""

    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.body = keras.Sequential([keras.layers.Dense(3, kernel_regularizer="l2")])
        self.unused = keras.layers.Dense(3)

    def call(self, inputs: Any) -> Any:
        return self.body(inputs)


@pytest.mark.filterwarnings("ignore:`build..` was called on layer")  # of the unused layer
def test_a_subclassed_model_before_and_after_it_is_built() -> None:
    """Unbuilt it is an error with the remedy; then it is audited, the unused layer told."""
    model = Subclassed()
    with pytest.raises(ValueError, match=r"which is not built\. Begin it with keras\.Input"):
        l2keras.audit(model)
    model(np.zeros((1, 3), "float32"))
    report = l2keras.audit(model)
    assert [row.lam for row in report.rows] == [0.02, 0.0]
    assert report.codes() == ["unbuilt-layers"]


@pytest.mark.parametrize(
    ("model", "callbacks", "message"),
    [
        (keras.layers.Dense(1), (), "`audit` takes a Keras model"),
        (None, [l2keras.HalfL2(0.1)], "`callbacks` must hold Keras callbacks.*HalfL2"),
    ],
)
def test_wrong_arguments(model: Any, callbacks: Any, message: str) -> None:
    """What is no model, or no callback, is named in the error."""
    with pytest.raises(TypeError, match=message):
        l2keras.audit(model or dense_model(), callbacks)


def test_a_callback_list_and_a_single_callback() -> None:
    """Both are taken for the callbacks in them."""
    decay, model = l2keras.WeightDecay(0.1), dense_model()
    for callbacks in (decay, keras.callbacks.CallbackList([decay])):
        assert l2keras.audit(model, callbacks).rows[0].lam == 0.1


def test_it_changes_nothing() -> None:
    """Weights, config, losses, train function and every attribute of the optimizer stay."""
    optimizer = excluding(keras.optimizers.AdamW(0.5, weight_decay=0.2), ["bias"])
    model = mixed_model(optimizer, regularizer="l2")
    fit_zeros(model, 1)

    def state() -> list[Any]:
        attributes = {key: repr(value) for key, value in vars(model.optimizer).items()}
        weights = [to_numpy(v).tolist() for v in (*model.variables, *model.optimizer.variables)]
        losses = [float(to_numpy(loss)) for loss in model.losses]
        return [weights, model.get_config(), losses, id(model.train_function), attributes]

    before = state()
    l2keras.audit(model, [l2keras.WeightDecay(0.1), keras.callbacks.EarlyStopping()])
    assert state() == before
    assert not [name for name in vars(model) if "audit" in name]


def test_it_does_not_build_an_optimizer() -> None:
    """A MultiOptimizer with a function is not asked, so that it makes nothing; it is told."""
    asked = []

    def choose(variable: Any) -> Any:
        asked.append(variable)
        return keras.optimizers.SGD(0.5, weight_decay=0.1)

    model = mixed_model(keras.optimizers.MultiOptimizer(choose))
    report = l2keras.audit(model)
    assert not asked
    assert not model.optimizer.built
    assert "optimizer-not-known" in report.codes()
    assert {row.lam_optimizer for row in report.rows} == {0.0}


@pytest.mark.parametrize("depth", [3, 30])
def test_the_walks_over_the_model_do_not_grow_with_it(depth: int) -> None:
    """However many variables, the lists of the whole model are made a fixed number of times."""
    walks = []

    class Counted(keras.Sequential):
        @property
        def weights(self) -> Any:
            walks.append("weights")
            return super().weights

    layers = [keras.layers.Dense(3, kernel_regularizer="l2") for _ in range(depth)]
    model = Counted([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.SGD(0.5, weight_decay=0.1), "mse")
    walks.clear()
    assert len(l2keras.audit(model, [l2keras.WeightDecay(0.1)]).rows) == 2 * depth
    assert 1 <= len(walks) <= 4


@pytest.mark.parametrize("depth", [3, 30])
def test_a_schedule_of_lam_is_evaluated_as_often_whatever_the_model(depth: int) -> None:
    """Once now and at seven steps for the digest, not for each variable: it may cost an op."""
    steps = []

    def lam(step: Any) -> Any:
        steps.append(float(step))
        return 0.5 / (1 + step)

    layers = [keras.layers.Dense(3) for _ in range(depth)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile("sgd", "mse")
    report = l2keras.audit(model, [l2keras.WeightDecay(lam, layer_decay=0.5)])
    assert [row.lam for row in report.rows[-4::2]] == [0.25, 0.5]
    assert len(steps) <= 9  # one more checks that it is a lam


SMALL = {
    "MobileNetV2": 32,
    "EfficientNetB0": 32,
    "ConvNeXtTiny": 32,
    "ResNet50V2": 32,
    "DenseNet121": 32,
}


@pytest.mark.parametrize("name", factorial.sample(SMALL, 2))
def test_small_applications(name: str) -> None:
    """Models of keras.applications: Keras' own counts, and the optimizer decays all it trains."""
    check_application(name, input_shape=(SMALL[name], SMALL[name], 3))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_under_a_strategy() -> None:
    """Mirrored variables are read like any other, exclusions by name too."""
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        optimizer = excluding(keras.optimizers.AdamW(0.5, weight_decay=0.2), ["bias"])
        model = mixed_model(optimizer)
    lams = {row.path: row.lam for row in l2keras.audit(model).rows}
    assert lams["mixed/first/kernel"] == 0.2
    assert lams["mixed/first/bias"] == 0.0


def test_each_variable_is_reported_with_the_optimizer_that_updates_it() -> None:
    """A second optimizer that is built for a part has its lam, learning rate and strength."""
    sgd, model = keras.optimizers.SGD, mixed_model(keras.optimizers.SGD(0.5, weight_decay=0.2))
    model.d_optimizer = sgd(0.25, weight_decay=12.0)
    assert "optimizer-not-built" in l2keras.audit(model).codes()
    model.d_optimizer.build(model.get_layer("last").trainable_variables)
    report = l2keras.audit(model)
    first, last = report.row("mixed/first/kernel"), report.row("mixed/last/kernel")
    assert [first.lam, first.learning_rate] == [0.2, 0.5]
    assert first.shrink == pytest.approx(0.5 * 0.2)
    assert [last.lam, last.learning_rate] == [12.0, 0.25]
    assert last.shrink == pytest.approx(0.25 * 12.0)
    assert report.optimizers[1] == "d_optimizer: SGD, learning rate 0.25"
    [found] = [f for f in report.findings if f.code == "decay-diverges"]
    assert "3 times the weights away" in found.message
    assert "2 variables (mixed/last/kernel, mixed/last/bias)" in found.message


def test_the_optimizer_of_a_layer_that_was_trained_before_is_another_one() -> None:
    """A model inside, compiled and built for another training, decays nothing in this one."""
    inner = dense_model()
    inner.compile(keras.optimizers.SGD(0.25, weight_decay=0.2))
    inner.optimizer.build(inner.trainable_variables)
    model = keras.Sequential([keras.Input((3,)), inner])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    row = l2keras.audit(model).rows[0]
    assert (row.lam, row.learning_rate) == (0.0, 0.5)


def test_a_callback_of_another_optimizer_is_checked_with_that_one() -> None:
    """WeightDecay(optimizer=) does not conflict with the weight_decay of compile's optimizer."""
    model = mixed_model(keras.optimizers.AdamW(0.5))
    model.d_optimizer = keras.optimizers.SGD(0.25)
    named = l2keras.WeightDecay(0.1, optimizer="d_optimizer")
    assert "callback-refused" not in l2keras.audit(model, [named]).codes()
    model.d_optimizer = keras.optimizers.SGD(0.25, weight_decay=0.1)
    assert "callback-refused" in l2keras.audit(model, [named]).codes()
