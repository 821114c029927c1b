"""PenaltySplit on a model: what it leaves there, meets there and refuses."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras import HalfL2, PenaltySplit, WeightDecay
from tests.support.models import (
    BACKEND,
    Linear,
    dense_model,
    fit,
    kernel,
    mse,
    random_data,
)
from tests.support.splits import ETA, LAM, PARTS, compiled


class Stop(keras.callbacks.Callback):
    """Ends a fit as Ctrl-C does."""

    def __init__(self, hook: str) -> None:
        super().__init__()
        setattr(self, hook, self.stop)

    def stop(self, *arguments: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt


@pytest.mark.factorial(
    after=["evaluate", "fit", "split"],
    hook=["on_train_batch_end", "on_epoch_end"],
    with_decay=[False, True],
)
def test_nothing_is_left_by_a_fit_that_was_interrupted(
    after: str, hook: str, with_decay: bool
) -> None:
    """The next evaluate and the next fit are those of the model alone, or of a new callback."""
    decay = [WeightDecay(LAM)] if with_decay else []
    x, y = (np.asarray(array, "float32") for array in random_data(8))
    data = x, y
    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        fit(model, data, [PenaltySplit(), *decay, Stop(hook)])
    if after == "evaluate":
        assert isinstance(model.evaluate(x, y, verbose=0), float)
    elif after == "fit":
        assert set(fit(model, data, epochs=2, validation_data=data)) == {"loss", "val_loss"}
    else:
        assert set(fit(model, data, [PenaltySplit()])) == PARTS
        assert set(fit(model, data)) == {"loss"}


def test_a_regularizer_is_evaluated_once_a_step() -> None:
    """Taking the loss apart costs no pass over the weights: the regularizer runs as often."""

    class Counted(keras.regularizers.Regularizer):
        calls = 0

        def __call__(self, x: Any) -> Any:
            Counted.calls += 1
            return HalfL2(LAM)(x)

    counts = []
    for callbacks in ([], [PenaltySplit()]):
        model = compiled(Counted())
        Counted.calls = 0
        fit(model, random_data(12), callbacks)
        counts.append(Counted.calls)
    # On torch every step runs in Python; elsewhere it is traced, after fit has built the model.
    assert counts[0] == counts[1] > 0


def test_attach_in_mid_fit_is_split_from_the_next_step_on() -> None:
    """A penalty that comes in the second epoch is counted in the second epoch."""
    model = dense_model()
    model.compile(keras.optimizers.SGD(ETA), mse)
    start = kernel(model)
    attach = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: epoch == 1 and l2keras.attach(model, HalfL2(LAM))
    )
    zeros = np.zeros((4, 3)), np.zeros((4, 2))
    history = fit(model, zeros, [PenaltySplit(), attach], epochs=2)
    assert history["penalty"] == pytest.approx([0.0, LAM / 2 * np.sum(start**2)], rel=1e-6)
    assert history["data_loss"] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert kernel(model) == pytest.approx((1 - ETA * LAM) * start, rel=1e-6)


def test_a_name_that_is_taken_raises() -> None:
    """A metric named `penalty` would be overwritten in the logs."""
    model = dense_model()
    model.compile(
        keras.optimizers.SGD(ETA), mse, metrics=[keras.metrics.MeanMetricWrapper(mse, "penalty")]
    )
    with pytest.raises(ValueError, match="a model with a metric named penalty"):
        fit(model, random_data(4), [PenaltySplit()])
    assert "compute_loss" not in vars(model)


def test_a_second_split_raises() -> None:
    """Two in one fit, or one in an evaluate inside it: the message names the right remedy."""
    x, y = (np.asarray(array, "float32") for array in random_data(4))
    model, split = compiled(), PenaltySplit()
    inner = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: model.evaluate(x, y, verbose=0, callbacks=[PenaltySplit()])
    )
    for callbacks in ([PenaltySplit(), PenaltySplit()], [split, split], [PenaltySplit(), inner]):
        with pytest.raises(ValueError, match=r"Pass one PenaltySplit only\."):
            fit(model, (x, y), callbacks)
        assert "compute_loss" not in vars(model)
        assert set(fit(model, (x, y), [PenaltySplit()])) == PARTS


class OwnLoss(keras.Sequential):
    """A `compute_loss` written by hand, which has the penalty in one of several ways, or not."""

    how = ""

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        loss = keras.ops.mean(keras.ops.square(y_pred - y))
        if self.how == "losses" or (self.how == "training" and training):
            return loss + sum(self.losses)
        if self.how == "tensor":
            return loss + keras.ops.sum(self.losses)
        return loss + l2keras.model_penalty(self) if self.how == "model_penalty" else loss


@pytest.mark.parametrize("how", ["none", "training", "losses", "tensor", "model_penalty"])
def test_a_compute_loss_of_ones_own(how: str) -> None:
    """A penalty that it does not add up is 0; one that it adds up is split off."""
    layers = [
        keras.layers.Dense(2, kernel_initializer="ones", kernel_regularizer=HalfL2(LAM)),
        keras.layers.Dense(1, kernel_initializer="ones", kernel_regularizer=HalfL2(LAM)),
    ]
    model = OwnLoss([keras.Input((3,)), *layers])
    model.how = how
    model.compile(keras.optimizers.SGD(0.0))
    data = np.zeros((4, 3), "float32"), np.full((4, 1), 3.0, "float32")
    history = fit(model, data, [PenaltySplit()], epochs=2, validation_data=data)
    train = 0.0 if how == "none" else LAM / 2 * (6 + 2)
    test = 0.0 if how in ("none", "training") else train
    for prefix, penalty in (("", train), ("val_", test)):
        assert history[f"{prefix}data_loss"] == [9.0, 9.0]
        assert history[f"{prefix}penalty"] == [penalty, penalty]
        assert history[f"{prefix}loss"] == [9.0 + penalty, 9.0 + penalty]


def test_a_step_that_goes_past_compute_loss_raises() -> None:
    """A custom train_step that the callback cannot see is an error, not a wrong number."""

    class Silent(keras.Sequential):
        def train_step(self, *arguments: Any) -> Any:
            logs = {"loss": keras.ops.ones(())}
            return (logs, arguments[0]) if BACKEND == "jax" else logs

    model = Silent([keras.Input((3,)), Linear(2)])
    model.compile(keras.optimizers.SGD(ETA), mse)
    with pytest.raises(RuntimeError, match=r"Silent, whose train_step .* Call self.compute_loss"):
        fit(model, random_data(4), [PenaltySplit()])
