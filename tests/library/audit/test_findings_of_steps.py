"""What a report cannot see is said: steps compiled before, losses and optimizers of one's own."""

from __future__ import annotations

import logging
from typing import Any

import keras
import pytest

import l2keras
from tests.support.models import (
    BACKEND,
    compiled,
    dense_model,
    find,
    fit_zeros,
    kernel,
)

SGD, HalfL2 = keras.optimizers.SGD, l2keras.HalfL2

COMPILES = pytest.mark.skipif(BACKEND == "torch", reason="torch runs Python at every step")


def fitted(model: Any) -> Any:
    """The model after one step with learning rate 0.5 on zeros."""
    fit_zeros(model, 1)
    return model


@COMPILES
def test_a_weight_decay_set_after_the_step_was_compiled_is_an_error() -> None:
    """It does not act, as the next step shows, and the row says so; compile again, and it does."""
    model = fitted(compiled(dense_model(), SGD(0.5)))
    start = kernel(model)
    model.optimizer.weight_decay = 0.5
    [found] = find(model, "weight-decay-too-late")
    assert found.severity == "error"
    assert l2keras.audit(model).rows[0].lam == 0.0
    assert kernel(fitted(model)) == pytest.approx(start)
    model.compile(model.optimizer, "mse")
    assert not find(model, "weight-decay-too-late")
    assert l2keras.audit(model).rows[0].lam == 0.5
    assert kernel(fitted(model)) == pytest.approx(0.75 * start)


@COMPILES
def test_a_weight_decay_taken_away_after_the_step_was_compiled_is_a_warning() -> None:
    """The compiled step goes on: 0.75 ** 2 after two steps."""
    model = compiled(dense_model(), SGD(0.5, weight_decay=0.5))
    start = kernel(model)
    assert not find(fitted(model), "weight-decay-goes-on")
    model.optimizer.weight_decay = None
    [found] = find(model, "weight-decay-goes-on")
    assert found.severity == "warning"
    assert kernel(fitted(model)) == pytest.approx(0.5625 * start)


@COMPILES
@pytest.mark.parametrize("change", ["set", "changed", "removed"])
def test_a_regularizer_changed_after_the_step_was_compiled(change: str) -> None:
    """The step keeps what it was traced with, which cannot be read: the report says that."""
    before = {"set": None, "changed": HalfL2(0.25), "removed": HalfL2(0.25)}[change]
    model = compiled(dense_model(regularizer=before), SGD(0.5))
    assert not find(model, "step-compiled-before")
    start = kernel(model)
    kernel_variable = fitted(model).get_layer("dense").kernel
    after = kernel(model)
    kernel_variable.regularizer = None if change == "removed" else HalfL2(1.0)
    [found] = find(model, "step-compiled-before")
    assert (found.severity, "model.compile again" in found.remedy) == ("info", True)
    factor = 1.0 if before is None else 0.875  # 1 - 0.5 * 0.25
    assert after == pytest.approx(factor * start)
    assert kernel(fitted(model)) == pytest.approx(factor * after)


def test_a_step_that_is_not_compiled_reads_what_is_set() -> None:
    """Eagerly, and on torch, a regularizer set after a fit acts, and nothing is said."""
    model = fitted(compiled(dense_model(), SGD(0.5), run_eagerly=BACKEND != "jax"))
    if BACKEND == "jax":
        model.run_eagerly = True
        model.make_train_function(force=True)
    start = kernel(model)
    model.get_layer("dense").kernel.regularizer = HalfL2(0.5)
    assert not find(model, "step-compiled-before")
    assert kernel(fitted(model)) == pytest.approx(0.75 * start)


def test_the_report_of_a_fit_with_weight_decay_is_of_its_own_step() -> None:
    """WeightDecay compiles a step of its own, so nothing before it acts."""
    model = fitted(compiled(dense_model(), SGD(0.5)))
    decay = l2keras.WeightDecay(0.5)
    fit_zeros(model, 1, [decay])
    assert decay.report is not None
    assert decay.report.codes() == []


def test_a_regularizer_set_between_two_fits_with_weight_decay_acts_as_reported() -> None:
    """The second fit traces its step anew: 1 - 0.5 * (0.5 + 0.5) of W is left."""
    model, decay = compiled(dense_model(), SGD(0.5)), l2keras.WeightDecay(0.5)
    start = kernel(model)
    fit_zeros(model, 1, [decay])
    model.get_layer("dense").kernel.regularizer = HalfL2(0.5)
    fit_zeros(model, 1, [decay])
    assert decay.report is not None
    assert decay.report.rows[0].lam == 1.0
    assert kernel(model) == pytest.approx(0.75 * 0.5 * start)


class OwnLoss(keras.Sequential):  # type: ignore[misc, unused-ignore]
    """Leaves the penalties of regularizers out and adds one of its own: 0.5 * sum(W ** 2)."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return 0.5 * keras.ops.sum(keras.ops.square(self.weights[0].value))


class OwnStep(keras.Sequential):  # type: ignore[misc, unused-ignore]
    """Goes past compute_loss."""

    def train_step(self, *args: Any) -> Any:
        return {} if BACKEND != "jax" else ({}, args[0])


class OwnLosses(keras.Sequential):  # type: ignore[misc, unused-ignore]
    """Hands no penalty to the loss."""

    @property
    def losses(self) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("kind", "name"), [(OwnLoss, "compute_loss"), (OwnStep, "train_step"), (OwnLosses, "losses")]
)
def test_a_loss_of_its_own_is_said_not_to_be_known(kind: Any, name: str) -> None:
    """A warning where regularizers may be left out, else an information."""
    for regularizer, severity in (("l2", "warning"), (None, "info")):
        layer = keras.layers.Dense(1, kernel_regularizer=regularizer, name="head")
        model = kind([keras.Input((3,)), layer], name="own")
        [found] = find(compiled(model, SGD(0.5)), "loss-of-its-own")
        assert found.severity == severity
        assert f"{kind.__name__} has its own {name}:" in found.message
        assert ("own/head/kernel" in found.message) == (severity == "warning")


def test_a_loss_of_its_own_may_leave_out_what_would_decay_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only the callback acts here, and nothing says that the penalty does; two callbacks do."""
    layer = keras.layers.Dense(1, kernel_regularizer=HalfL2(0.5), use_bias=False)
    model = compiled(OwnLoss([keras.Input((3,)), layer]), SGD(0.5), run_eagerly=True)
    decay = l2keras.WeightDecay(0.1)
    fit_zeros(model, 1, [decay])
    [found] = find(model, "decayed-twice", [decay])
    assert found.severity == "warning"
    assert found.message.startswith("May be decayed by regularizer and callback: 1 variable")
    assert not caplog.records
    [found] = find(model, "decayed-twice", [decay, l2keras.WeightDecay(0.1)])
    assert found.severity == "error"


def test_a_compute_loss_that_is_set_on_the_model() -> None:
    """A function in the place of the method counts too; PenaltySplit, which adds nothing, not."""
    model = compiled(dense_model(), SGD(0.5))
    seen: list[Any] = []

    class Auditing(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen.extend(find(self.model, "loss-of-its-own"))

    fit_zeros(model, 1, [l2keras.PenaltySplit(), Auditing()])
    assert not seen
    own = model.compute_loss
    model.compute_loss = lambda *args, **kwargs: own(*args, **kwargs)
    assert find(model, "loss-of-its-own")


class Adding(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
    """Adds a loss where it is called."""

    def call(self, inputs: Any) -> Any:
        self.add_loss(keras.ops.sum(inputs))
        return inputs


def test_losses_that_a_layer_adds() -> None:
    """A layer of one's own that calls add_loss is named; Keras' own layers are not."""
    inside = [Adding(name="adding"), keras.layers.Dense(1, activity_regularizer="l2")]
    model = keras.Sequential([keras.Input((3,)), *inside])
    [found] = find(model, "losses-added")
    assert "called by adding:" in found.message
    assert not find(dense_model(), "losses-added")


class OwnSGD(keras.optimizers.SGD):  # type: ignore[misc, unused-ignore]
    """An optimizer of a user's own."""


def test_optimizers_whose_decay_is_not_read() -> None:
    """Ftrl with penalties of its own, and classes that are not Keras'."""
    ftrl = keras.optimizers.Ftrl
    assert find(
        compiled(dense_model(), ftrl(l2_regularization_strength=0.1)), "optimizer-of-its-own"
    )
    assert find(compiled(dense_model(), OwnSGD(0.5)), "optimizer-of-its-own")
    for known in (ftrl(), SGD(0.5), keras.optimizers.LossScaleOptimizer(SGD(0.5))):
        assert not find(compiled(dense_model(), known), "optimizer-of-its-own")


def test_what_cannot_be_known_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Only errors are logged when fit begins."""
    model = OwnLoss([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    fit_zeros(
        compiled(model, SGD(0.5), run_eagerly=BACKEND != "jax"), 1, [l2keras.WeightDecay(0.1)]
    )
    assert not [r for r in caplog.records if r.name == "l2keras" and r.levelno >= logging.WARNING]
