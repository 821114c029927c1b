"""What several tests of the library share: tiny models, a fit without surprises, NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest

import l2keras

BACKEND = str(keras.backend.backend())
ON_TENSORFLOW = pytest.mark.skipif(BACKEND != "tensorflow", reason="about TensorFlow's graphs")
ON_TORCH = pytest.mark.skipif(BACKEND != "torch", reason="about torch")


def relative_distance(actual: Any, expected: Any) -> float:
    """`||actual - expected|| / ||expected||` in float64."""
    actual, expected = np.asarray(actual, "float64"), np.asarray(expected, "float64")
    assert actual.shape == expected.shape
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def to_numpy(tensor: Any) -> Any:
    """A tensor or variable of any backend as an array."""
    return keras.ops.convert_to_numpy(tensor)


def gradient(function: Callable[[Any], Any], at: Any) -> Any:
    """The gradient by the running backend's own autodiff, as an array."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        point = tf.constant(at)
        with tf.GradientTape() as tape:
            tape.watch(point)
            value = function(point)
        return tape.gradient(value, point).numpy()
    if BACKEND == "jax":
        import jax

        return np.asarray(jax.grad(function)(jax.numpy.asarray(at)))
    import torch

    point = torch.tensor(at, requires_grad=True)
    function(point).backward()
    return point.grad.numpy()


@keras.saving.register_keras_serializable(package="tests")
class Linear(keras.layers.Dense):
    """Dense that is float64 on every backend: on torch, Keras' matmul computes in float32."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = keras.ops.sum(inputs[..., None] * self.kernel, axis=-2)
        outputs = outputs if self.bias is None else outputs + self.bias
        return outputs if self.activation is None else self.activation(outputs)


@keras.saving.register_keras_serializable(package="tests")
def mse(y_true: Any, y_pred: Any) -> Any:
    """The mean squared error of each sample, float64 on every backend: on torch, Keras' is not."""
    return keras.ops.sum(keras.ops.square(y_pred - y_true), axis=-1) / y_pred.shape[-1]


def dense_model(
    units: int = 2,
    features: int = 3,
    *,
    use_bias: bool = False,
    regularizer: Any = None,
    constraint: Any = None,
) -> Any:
    """One linear layer named `dense`, its kernel drawn from a fixed seed."""
    make_layer = Linear if keras.config.floatx() == "float64" else keras.layers.Dense
    layer = make_layer(
        units,
        use_bias=use_bias,
        kernel_regularizer=regularizer,
        kernel_constraint=constraint,
        name="dense",
    )
    model = keras.Sequential([keras.Input((features,)), layer])
    layer.kernel.assign(np.random.default_rng(7).normal(size=(features, units)))
    return model


def kernel(model: Any) -> Any:
    """The kernel of the layer `dense` as an array."""
    return to_numpy(model.get_layer("dense").kernel)


def random_data(samples: int, *, features: int = 3, units: int = 2) -> tuple[Any, Any]:
    """Inputs and targets from a fixed seed, float64."""
    generator = np.random.default_rng(11)
    return generator.normal(size=(samples, features)), generator.normal(size=(samples, units))


def fit(
    model: Any,
    data: tuple[Any, Any],
    callbacks: Sequence[Any] = (),
    *,
    batch_size: int = 4,
    epochs: int = 1,
    **kwargs: Any,
) -> dict[str, list[float]]:
    """`model.fit` in order and in silence; returns the history.

    On TensorFlow the batches come from a dataset without autotune, whose iterator takes up
    to a second to destroy at the end of each epoch.
    """
    dtype = keras.config.floatx()
    inputs, targets = (np.asarray(array, dtype) for array in data)
    feed: dict[str, Any] = {"x": inputs, "y": targets, "batch_size": batch_size}
    if BACKEND == "tensorflow":
        import tensorflow as tf

        options = tf.data.Options()
        options.autotune.enabled = False
        dataset = tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(batch_size)
        feed = {"x": dataset.with_options(options)}
    history = model.fit(
        **feed, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks), **kwargs
    )
    result: dict[str, list[float]] = history.history
    return result


def fit_zeros(
    model: Any, steps: int, callbacks: Sequence[Any] = (), **kwargs: Any
) -> dict[str, list[float]]:
    """Steps of one sample on zero inputs and targets: the gradient of a kernel is zero."""
    features, units = model.input_shape[-1], model.output_shape[-1]
    data = np.zeros((steps, features)), np.zeros((steps, units))
    return fit(model, data, callbacks, batch_size=1, **kwargs)


def linear_gradient(weight: Any, inputs: Any, targets: Any) -> Any:
    """The gradient of mean((inputs @ weight - targets) ** 2), by hand."""
    gradient_: Any = 2 / targets.size * inputs.T @ (inputs @ weight - targets)
    return gradient_


def compiled(model: Any, optimizer: Any, **options: Any) -> Any:
    """The model itself, compiled with the mean squared error."""
    model.compile(optimizer, "mse", **options)
    return model


def find(model: Any, code: str, callbacks: Sequence[Any] = ()) -> list[Any]:
    """The findings of the audit that have this code; every finding is worded in full."""
    report = l2keras.audit(model, callbacks)
    assert all(f.severity in ("error", "warning", "info") for f in report.findings)
    assert all(f.message and f.remedy for f in report.findings)
    return [finding for finding in report.findings if finding.code == code]


def flat_loss(y_true: Any, y_pred: Any) -> Any:
    """Zero with a zero gradient, so that only decay moves a weight."""
    return 0.0 * keras.ops.mean(y_pred, axis=-1)


def mixed_model(optimizer: Any, *, regularizer: Any = None) -> Any:
    """Kernels, biases, gamma and beta, all of them ones, compiled with a flat loss."""
    ones: dict[str, Any] = {"kernel_initializer": "ones", "bias_initializer": "ones"}
    layers = [
        keras.layers.Dense(3, kernel_regularizer=regularizer, name="first", **ones),
        keras.layers.LayerNormalization(beta_initializer="ones", name="norm"),
        keras.layers.Dense(2, name="last", **ones),
    ]
    model = keras.Sequential([keras.Input((3,)), *layers], name="mixed")
    model.compile(optimizer, flat_loss)
    return model


def excluding(optimizer: Any, names: Sequence[str]) -> Any:
    optimizer.exclude_from_weight_decay(var_names=list(names))
    return optimizer
