"""PenaltySplit: data_loss + penalty == loss, at the weights of every step, in every log."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import HalfL2, PenaltySplit, WeightDecay, model_penalty
from l2keras._keras import optimizers
from tests.support.models import (
    BACKEND,
    dense_model,
    fit,
    kernel,
    linear_gradient,
    mse,
    random_data,
    to_numpy,
)
from tests.support.splits import ETA, LAM, PARTS, compiled

TOLERANCE = 1e-7 if BACKEND == "torch" else 1e-12  # on torch Keras averages a loss in float32


def by_hand(
    weight: Any, data: tuple[Any, Any], *, batch_size: int, epochs: int
) -> list[tuple[float, float, Any]]:
    """For each epoch the mean data loss and penalty over its samples, and the weights after it."""
    x, y = data
    result = []
    for _ in range(epochs):
        data_loss = penalty = 0.0
        for start in range(0, len(x), batch_size):
            xs, ys = x[start : start + batch_size], y[start : start + batch_size]
            data_loss += float(np.mean((xs @ weight - ys) ** 2)) * len(xs)
            penalty += LAM / 2 * float(np.sum(weight**2)) * len(xs)
            weight = weight - ETA * (linear_gradient(weight, xs, ys) + LAM * weight)
        result.append((data_loss / len(x), penalty / len(x), weight))
    return result


@pytest.mark.usefixtures("float64")
def test_replicas_share_the_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients are summed over replicas, so each of two has half of the penalty in its loss."""
    monkeypatch.setattr(optimizers, "num_replicas", lambda: 2)
    model = dense_model(regularizer=HalfL2(LAM))
    half = LAM / 4 * np.sum(kernel(model) ** 2)
    assert float(to_numpy(model_penalty(model))) == pytest.approx(half, rel=TOLERANCE)


def is_affordable(cell: Mapping[str, Any]) -> bool:
    """Whether it takes less than some seconds: JAX without jit compiles each operation alone."""
    return BACKEND != "jax" or cell["jit"] is True


@pytest.mark.usefixtures("float64")
@pytest.mark.factorial(jit=[False, True], affordable=is_affordable)
def test_the_parts_are_those_of_the_steps(jit: bool) -> None:
    """Batches of 4, 4 and 2: each part is the mean over samples of the values at each step."""
    model = compiled(jit_compile=jit and BACKEND != "torch")
    data, validation = random_data(10), random_data(6)
    start = kernel(model)
    history = fit(model, data, [PenaltySplit()], epochs=3, validation_data=validation)
    for epoch, (data_loss, penalty, weight) in enumerate(
        by_hand(start, data, batch_size=4, epochs=3)
    ):
        at_end = float(np.mean((validation[0] @ weight - validation[1]) ** 2))
        penalty_at_end = LAM / 2 * float(np.sum(weight**2))
        expected = {
            "data_loss": data_loss,
            "penalty": penalty,
            "loss": data_loss + penalty,
            "val_data_loss": at_end,
            "val_penalty": penalty_at_end,
            "val_loss": at_end + penalty_at_end,
        }
        assert {key: values[epoch] for key, values in history.items()} == pytest.approx(
            expected, rel=TOLERANCE
        )


def test_early_stopping_watches_the_data_loss() -> None:
    """Listed first and without a mode, it stops where the data loss rises, not val_loss."""
    epochs = {}
    for monitor in ("val_loss", "val_data_loss"):
        model = compiled()
        # The gradient is the penalty's alone: W = 0.875**t * W0, and W0 fits the validation data.
        data, validation = (np.zeros((3, 3)), np.zeros((3, 2))), (np.eye(3), kernel(model))
        stop = keras.callbacks.EarlyStopping(monitor=monitor, patience=1)
        history = fit(model, data, [stop, PenaltySplit()], epochs=6, validation_data=validation)
        epochs[monitor] = len(history["loss"])
    # val_data_loss rises at once; val_loss, (1-s)**2/6 + s**2/4 of |W0|**2, falls until s = 0.4
    assert epochs == {"val_loss": 6, "val_data_loss": 2}


def test_what_depends_on_the_data_stays_in_the_data_loss() -> None:
    """Activity regularizers and add_loss are data_loss; sample weights and two outputs too."""

    class Adds(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            self.add_loss(keras.ops.mean(inputs) * 0 + 8.0)
            return inputs

    inputs = keras.Input((3,))
    ones = keras.layers.Dense(
        2,
        kernel_initializer="ones",
        kernel_regularizer=HalfL2(1.0),
        activity_regularizer=keras.regularizers.L1(1.0),
        bias_regularizer=HalfL2(1.0),
        bias_initializer="ones",
    )(inputs)
    model = keras.Model(inputs, {"a": ones, "b": Adds()(ones)})
    model.compile(keras.optimizers.SGD(0.0), {"a": mse, "b": mse})
    x, y = np.zeros((4, 3)), np.zeros((4, 2))
    weights = {"a": np.full(4, 2.0), "b": np.full(4, 3.0)}
    logs = model.fit(
        x, {"a": y, "b": y}, sample_weight=weights, verbose=0, callbacks=[PenaltySplit()]
    ).history
    # kernel 6 ones, bias 2 ones: 8 / 2; outputs are 1: losses 2 and 3, |1| + |1|, 8
    assert logs["penalty"] == [4.0]
    assert logs["data_loss"] == [2.0 + 3.0 + 2.0 + 8.0]
    assert logs["loss"] == [19.0]


def test_a_model_without_penalty_has_penalty_zero() -> None:
    """All of its loss is data loss."""
    model = dense_model()
    model.compile(keras.optimizers.SGD(ETA), mse)
    history = fit(model, random_data(8), [PenaltySplit()], epochs=2)
    assert history["penalty"] == [0.0, 0.0]
    assert history["data_loss"] == history["loss"]


def test_evaluate_alone() -> None:
    """With the callback evaluate returns the parts; without it, what it always returned."""
    model = compiled()
    x, y = (np.asarray(array, "float32") for array in random_data(8))
    penalty = LAM / 2 * float(np.sum(kernel(model) ** 2))
    data_loss = float(np.mean((x @ kernel(model) - y) ** 2))
    for _ in range(2):
        arguments: dict[str, Any] = {"verbose": 0, "return_dict": True}
        split = model.evaluate(x, y, callbacks=[PenaltySplit()], **arguments)
        assert split == pytest.approx(
            {"loss": data_loss + penalty, "data_loss": data_loss, "penalty": penalty}, rel=1e-5
        )
        assert set(model.evaluate(x, y, **arguments)) == {"loss"}


@pytest.mark.parametrize("first", [True, False])
def test_together_with_weight_decay(first: bool) -> None:
    """In both orders the decay acts and the parts are right, in one fit after the other."""
    model = compiled()
    zeros = np.zeros((2, 3)), np.zeros((2, 2))
    for _ in range(2):
        start = kernel(model)
        callbacks = [PenaltySplit(), WeightDecay(LAM)][:: 1 if first else -1]
        history = fit(model, zeros, callbacks, batch_size=2)
        assert kernel(model) == pytest.approx((1 - 2 * ETA * LAM) * start, rel=1e-5)
        assert history["penalty"] == pytest.approx([LAM / 2 * np.sum(start**2)], rel=1e-5)
        assert history["data_loss"] == pytest.approx([0.0], abs=1e-6)
    assert set(fit(model, zeros)) == {"loss"}


@pytest.mark.skipif(BACKEND == "torch", reason="Keras on torch refuses steps_per_execution > 1")
def test_several_steps_an_execution() -> None:
    """Three steps of which two run in one execution are averaged like any three."""
    model, data = compiled(steps_per_execution=2), random_data(12)
    start = kernel(model)
    history = fit(model, data, [PenaltySplit()], epochs=2)
    hand = by_hand(start, data, batch_size=4, epochs=2)
    assert history["penalty"] == pytest.approx([epoch[1] for epoch in hand], rel=1e-5)
    assert history["data_loss"] == pytest.approx([epoch[0] for epoch in hand], rel=1e-5)


def test_mixed_float16() -> None:
    """The parts are those before the loss is scaled, and the penalty is summed in float32."""
    keras.config.set_dtype_policy("mixed_float16")
    layer = keras.layers.Dense(300, kernel_initializer="ones", kernel_regularizer=HalfL2(2.0))
    model = keras.Sequential([keras.Input((300,)), layer])
    model.compile(keras.optimizers.SGD(ETA), mse)
    history = fit(model, (np.zeros((2, 300)), np.ones((2, 300))), [PenaltySplit()])
    assert history["penalty"] == [90000.0]  # inf in float16
    assert history["data_loss"] == [1.0]


def test_every_log_shows_them(tmp_path: Path, capsys: Any) -> None:
    """CSVLogger, listed first, and the progress bar; val_ only in the epochs that validate."""
    model, data = compiled(), random_data(4)
    x, y = (np.asarray(array, "float32") for array in data)
    history = model.fit(
        x,
        y,
        epochs=2,
        verbose=2,
        validation_data=(x, y),
        validation_freq=2,
        callbacks=[keras.callbacks.CSVLogger(tmp_path / "log.csv"), PenaltySplit()],
    ).history
    assert {key for key in history if len(history[key]) == 2} == PARTS
    assert {key for key in history if len(history[key]) == 1} == {f"val_{key}" for key in PARTS}
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [float(row["data_loss"]) for row in rows] == pytest.approx(history["data_loss"])
    printed = capsys.readouterr().out
    assert "data_loss:" in printed
    assert "val_penalty:" in printed


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    """Saved in mid fit or afterwards, the model has no trace of the callback."""
    model, data = compiled(), random_data(8)
    save = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras", monitor="data_loss")
    weights = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.weights.h5", save_weights_only=True, monitor="data_loss"
    )
    fit(model, data)
    before = set(vars(model))
    fit(model, data, [save, weights, PenaltySplit()])
    assert set(vars(model)) == before
    assert model.metrics_names == ["loss"]
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(kernel(loaded), kernel(model))
    assert set(fit(loaded, data)) == {"loss"}
    other = dense_model()
    other.load_weights(tmp_path / "best.weights.h5")
    assert np.array_equal(kernel(other), kernel(model))


def test_another_callback_may_evaluate_meanwhile() -> None:
    """An evaluation in every epoch leaves the split in place until the fit ends."""
    model, data = compiled(), random_data(8)
    x, y = (np.asarray(array, "float32") for array in data)
    evaluate = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: model.evaluate(x, y, verbose=0)
    )
    start = kernel(model)
    history = fit(model, data, [evaluate, PenaltySplit(), evaluate], epochs=3)
    hand = by_hand(start, data, batch_size=4, epochs=3)
    assert history["penalty"] == pytest.approx([epoch[1] for epoch in hand], rel=1e-5)
    assert isinstance(model.evaluate(x, y, verbose=0), float)
