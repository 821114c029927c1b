"""HalfL2 in training loops written by hand: each equals the closed form."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from l2keras import HalfL2, model_penalty
from tests.support.models import (
    BACKEND,
    dense_model,
    fit,
    kernel,
    linear_gradient,
    mse,
    random_data,
)
from tests.support.models import to_numpy as numpy_of

ETA, LAM, STEPS = 0.25, 0.5, 5
TOLERANCE = 1e-6 if BACKEND == "torch" else 1e-12  # on torch Keras averages a loss in float32


def by_hand(weight: Any, data: tuple[Any, Any]) -> Any:
    """Gradient descent on the mean squared error and (LAM / 2) * sum(W ** 2)."""
    for _ in range(STEPS):
        weight = weight - ETA * (linear_gradient(weight, *data) + LAM * weight)
    return weight


def tensorflow_loop(model: Any, x: Any, y: Any) -> None:
    import tensorflow as tf

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(mse(y, model(x, training=True))) + model_penalty(model)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    optimizer = keras.optimizers.SGD(ETA)
    optimizer.build(model.trainable_variables)
    for _ in range(STEPS):
        step()


def jax_loop(model: Any, x: Any, y: Any) -> None:
    import jax

    def loss(trainable: Any, rest: Any) -> Any:
        outputs, _ = model.stateless_call(trainable, rest, x, training=True)
        return keras.ops.mean(mse(y, outputs)) + model_penalty(model, trainable)

    @jax.jit
    def step(trainable: Any, rest: Any, state: Any) -> Any:
        gradients = jax.grad(loss)(trainable, rest)
        return optimizer.stateless_apply(state, gradients, trainable)

    optimizer = keras.optimizers.SGD(ETA)
    optimizer.build(model.trainable_variables)
    trainable = [variable.value for variable in model.trainable_variables]
    rest = [variable.value for variable in model.non_trainable_variables]
    state = [variable.value for variable in optimizer.variables]
    for _ in range(STEPS):
        trainable, state = step(trainable, rest, state)
    for variable, value in zip(model.trainable_variables, trainable, strict=True):
        variable.assign(value)


def torch_loop(model: Any, x: Any, y: Any) -> None:
    import torch

    x, y = torch.as_tensor(x), torch.as_tensor(y)
    optimizer = torch.optim.SGD(model.parameters(), ETA)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = torch.mean(mse(y, model(x, training=True))) + model_penalty(model)
        loss.backward()
        optimizer.step()


LOOPS = {"tensorflow": tensorflow_loop, "jax": jax_loop, "torch": torch_loop}


@pytest.mark.usefixtures("float64")
def test_a_loop_of_the_backend_equals_the_closed_form() -> None:
    """GradientTape, a stateless JAX step or torch's own optimizer: W follows the gradient."""
    model, data = dense_model(regularizer=HalfL2(LAM)), random_data(8)
    expected = by_hand(kernel(model), data)
    LOOPS[BACKEND](model, *data)
    assert kernel(model) == pytest.approx(expected, rel=1e-12)


class OwnStep(keras.Sequential):
    """A `train_step` written by hand, with the penalty in its loss."""

    def train_step(self, *arguments: Any) -> Any:
        step: dict[str, Any] = {
            "tensorflow": self.step_tensorflow,
            "jax": self.step_jax,
            "torch": self.step_torch,
        }
        return step[BACKEND](*arguments)

    def loss_of(self, y: Any, outputs: Any, trainable: Any = None) -> Any:
        return keras.ops.mean(mse(y, outputs)) + model_penalty(self, trainable)

    def step_tensorflow(self, data: Any) -> Any:
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = self.loss_of(y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"objective": loss}

    def step_jax(self, state: Any, data: Any) -> Any:
        import jax

        trainable, rest, optimizer_state, metrics = state
        x, y = data[:2]

        def loss(trainable: Any) -> Any:
            outputs, _ = self.stateless_call(trainable, rest, x, training=True)
            return self.loss_of(y, outputs, trainable)

        value, gradients = jax.value_and_grad(loss)(trainable)
        trainable, optimizer_state = self.optimizer.stateless_apply(
            optimizer_state, gradients, trainable
        )
        return {"objective": value}, (trainable, rest, optimizer_state, metrics)

    def step_torch(self, data: Any) -> Any:
        import torch

        x, y = data[:2]
        self.zero_grad()
        loss = self.loss_of(y, self(x, training=True))
        loss.backward()
        gradients = [variable.value.grad for variable in self.trainable_variables]
        with torch.no_grad():
            self.optimizer.apply(gradients, self.trainable_variables)
        return {"objective": loss.detach()}


@pytest.mark.usefixtures("float64")
def test_a_train_step_of_ones_own_equals_the_closed_form() -> None:
    """`fit` with an overridden train_step has the penalty once, in its loss and its gradient."""
    model, data = OwnStep(dense_model(regularizer=HalfL2(LAM)).layers), random_data(8)
    start = kernel(model)
    model.compile(keras.optimizers.SGD(ETA))
    history = fit(model, data, batch_size=8, epochs=STEPS)
    assert kernel(model) == pytest.approx(by_hand(start, data), rel=TOLERANCE)
    first = np.mean((data[0] @ start - data[1]) ** 2) + LAM / 2 * np.sum(start**2)
    assert history["objective"][0] == pytest.approx(first, rel=1e-6)


def test_the_penalty_is_that_of_the_trainable_weights() -> None:
    """Shared layers count once, frozen ones and activity regularizers not; no penalty is 0."""
    one = {"kernel_initializer": "ones", "kernel_regularizer": HalfL2(LAM)}
    shared = keras.layers.Dense(3, activity_regularizer="l2", **one)
    frozen = keras.layers.Dense(3, trainable=False, **one)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, frozen(shared(shared(inputs))))
    assert numpy_of(model_penalty(model)) == LAM / 2 * 9
    frozen.trainable = True
    assert numpy_of(model_penalty(model)) == LAM / 2 * 18
    assert numpy_of(model_penalty(dense_model())) == 0.0


def test_the_penalty_takes_values_in_the_place_of_variables() -> None:
    """As a stateless loop needs it; the number of values must be that of the variables."""
    model = dense_model(regularizer=HalfL2(LAM), use_bias=True)
    values = [keras.ops.full((3, 2), 2.0), keras.ops.zeros((2,))]
    if BACKEND == "jax":
        assert numpy_of(model_penalty(model, values)) == LAM / 2 * 6 * 4
    with pytest.raises(ValueError, match=r"have 2 values.* Received: 1 values\. Pass the list"):
        model_penalty(model, values[:1])


@pytest.mark.filterwarnings("ignore:`build..` was called on layer")  # torch, of the unused layer
def test_an_unbuilt_model_raises_rather_than_have_no_penalty() -> None:
    """Unbuilt, or built in part, it raises; a layer that is never called does not matter."""
    ones = {"kernel_initializer": "ones", "kernel_regularizer": HalfL2(LAM)}
    first, second = keras.layers.Dense(2, **ones), keras.layers.Dense(1, **ones)

    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.used = keras.layers.Dense(2, **ones)
            self.unused = keras.layers.Dense(4, **ones)

        def call(self, inputs: Any) -> Any:
            return self.used(inputs)

    with pytest.raises(ValueError, match="Received: Sequential deferred, which is not built"):
        model_penalty(keras.Sequential([first, second], name="deferred"))
    first = keras.layers.Dense(2, **ones)
    first.build((None, 3))
    deferred = keras.Sequential([first, second], name="in_part")
    with pytest.raises(ValueError, match="Received: Sequential in_part, which is not built"):
        model_penalty(deferred)
    deferred.build((None, 3))
    assert numpy_of(model_penalty(deferred)) == LAM / 2 * (6 + 2)
    model = Model()
    model(np.zeros((1, 3)))
    assert numpy_of(model_penalty(model)) == LAM / 2 * 6
