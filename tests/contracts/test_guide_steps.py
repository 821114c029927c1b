"""PenaltySplit with the train_step of Keras' guide, which updates all metrics in one loop.

Source: https://keras.io/guides, "Customizing what happens in fit()", for each backend.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from l2keras import HalfL2, PenaltySplit
from tests.support.models import BACKEND, fit, kernel

# Two batches: four samples with the loss (1 - 0)**2, and two with (1 - 3)**2.
X, Y = np.ones((6, 1), "float32"), np.array([[0.0]] * 4 + [[3.0]] * 2, "float32")


class Guide(keras.Model):
    """One weight, 1; the mean of `loss` is over the batches, not over their samples."""

    def __init__(self, regularizer: Any) -> None:
        super().__init__()
        self.layer = keras.layers.Dense(
            1,
            use_bias=False,
            kernel_initializer="ones",
            kernel_regularizer=regularizer,
            name="dense",
        )

    def build(self, shape: Any) -> None:
        self.layer.build(shape)
        self.built = True

    def call(self, x: Any) -> Any:
        return self.layer(x)

    def train_step(self, *arguments: Any) -> Any:
        if BACKEND == "jax":
            return self._jax_step(*arguments)
        x, y = arguments[0][:2]
        variables = self.trainable_variables
        if BACKEND == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                predictions = self(x, training=True)
                loss = self.compute_loss(y=y, y_pred=predictions)
            self.optimizer.apply(tape.gradient(loss, variables), variables)
        else:
            import torch

            self.zero_grad()
            predictions = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=predictions)
            loss.backward()
            with torch.no_grad():
                self.optimizer.apply([variable.value.grad for variable in variables], variables)
        return self._updated(loss, y, predictions)

    def test_step(self, *arguments: Any) -> Any:
        if BACKEND == "jax":
            return self._jax_test_step(*arguments)
        x, y = arguments[0][:2]
        predictions = self(x, training=False)
        return self._updated(self.compute_loss(y=y, y_pred=predictions), y, predictions)

    def _updated(self, loss: Any, y: Any, predictions: Any) -> dict[str, Any]:
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, predictions)
        return {metric.name: metric.result() for metric in self.metrics}

    def _loss(self, trainable: Any, other: Any, x: Any, y: Any) -> Any:
        predictions, other = self.stateless_call(trainable, other, x)
        return self.compute_loss(x, y, predictions), (predictions, other)

    def _jax_step(self, state: Any, data: Any) -> Any:
        import jax

        (trainable, other, of_optimizer, metrics), (x, y) = state, data[:2]
        both = jax.value_and_grad(self._loss, has_aux=True)
        (loss, (predictions, other)), gradients = both(trainable, other, x, y)
        trainable, of_optimizer = self.optimizer.stateless_apply(of_optimizer, gradients, trainable)
        logs, metrics = self._jax_updated(metrics, loss, y, predictions)
        return logs, (trainable, other, of_optimizer, metrics)

    def _jax_test_step(self, state: Any, data: Any) -> Any:
        (trainable, other, metrics), (x, y) = state, data[:2]
        loss, (predictions, other) = self._loss(trainable, other, x, y)
        logs, metrics = self._jax_updated(metrics, loss, y, predictions)
        return logs, (trainable, other, metrics)

    def _jax_updated(self, values: Any, loss: Any, y: Any, predictions: Any) -> Any:
        updated: list[Any] = []
        logs = {}
        for metric in self.metrics:
            own = values[len(updated) : len(updated) + len(metric.variables)]
            given = (loss,) if metric.name == "loss" else (y, predictions)
            own = metric.stateless_update_state(own, *given)
            logs[metric.name] = metric.stateless_result(own)
            updated += own
        return logs, updated


def guide(rate: float, *, regularized: bool, **arguments: Any) -> Guide:
    model = Guide(HalfL2(0.5) if regularized else None)
    model.build((None, 1))
    model.compile(keras.optimizers.SGD(rate), "mse", metrics=["mae"], **arguments)
    return model


# On JAX Keras' own guide cannot be regularized: its compute_loss has no weights to read.
REGULARIZED = [False] if BACKEND == "jax" else [False, True]


@pytest.mark.parametrize("regularized", REGULARIZED)
def test_the_parts_are_averaged_as_the_loss_is(regularized: bool) -> None:
    """Over the two batches: (1 + 4) / 2, and not over the six samples: (4 * 1 + 2 * 4) / 6."""
    model = guide(0.0, regularized=regularized)
    data, penalty = (X, Y), 0.25 * regularized
    validation: dict[str, Any] = {"validation_data": data, "validation_batch_size": 4}
    logs = fit(model, data, [PenaltySplit()], epochs=2, **validation)
    expected = {"loss": 2.5 + penalty, "data_loss": 2.5, "penalty": penalty, "mae": 4 / 3}
    for name, value in expected.items():
        assert logs[name] == pytest.approx([value] * 2)
        assert logs[f"val_{name}"] == pytest.approx([value] * 2)
    assert "data_loss" not in fit(model, data)


@pytest.mark.parametrize("regularized", REGULARIZED)
def test_no_bit_of_the_weights_or_of_the_loss_changes(regularized: bool) -> None:
    """The loop updates the parts, too, and gets no number of theirs wrong."""
    plain, split = (guide(0.1, regularized=regularized) for _ in range(2))
    expected = fit(plain, (X, Y), epochs=3)
    logs = fit(split, (X, Y), [PenaltySplit()], epochs=3)
    assert kernel(plain) != 1.0
    assert np.array_equal(kernel(plain), kernel(split))
    assert {name: logs[name] for name in expected} == expected
    parts = np.add(logs["data_loss"], logs["penalty"])
    np.testing.assert_allclose(parts, logs["loss"], rtol=1e-5)
