"""HalfL2 in training loops written by hand: each equals the closed form, and one device."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import HalfL2, model_penalty
from tests.support import ROOT
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


# Logical devices must exist before TensorFlow starts: a process of its own, for all cases.
PROGRAM = """
import json
import keras, numpy as np, tensorflow as tf
from l2keras import HalfL2, PenaltySplit, model_penalty

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
random = np.random.default_rng(0)
x, y = random.normal(size=(32, 3)).astype("float32"), random.normal(size=(32, 2)).astype("float32")
start = random.normal(size=(3, 2))
options = tf.data.Options()
options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).with_options(options)

def penalized(model, how):
    return model_penalty(model) if how == "model_penalty" else tf.add_n(model.losses)

class OwnStep(keras.Sequential):
    how = ""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            squares = tf.reduce_mean((self(x, training=True) - y) ** 2, axis=-1)
            loss = tf.nn.compute_average_loss(squares) + penalized(self, self.how)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"objective": loss}

def make(strategy, layers=OwnStep):
    with strategy.scope():
        layer = keras.layers.Dense(2, use_bias=False, kernel_regularizer=HalfL2(0.5))
        model = layers([keras.Input((3,)), layer])
        model.compile(keras.optimizers.SGD(0.25), "mse")
    model.set_weights([start])
    return model

def own_step(strategy, how):
    model = make(strategy)
    model.how = how
    model.fit(data, epochs=2, verbose=0)
    return model.get_weights()[0].tolist()

def own_loop(strategy, how):
    model = make(strategy)

    @tf.function
    def step(batch):
        def replica(x, y):
            with tf.GradientTape() as tape:
                squares = tf.reduce_mean((model(x, training=True) - y) ** 2, axis=-1)
                loss = tf.nn.compute_average_loss(squares) + penalized(model, how)
            gradients = tape.gradient(loss, model.trainable_variables)
            model.optimizer.apply(gradients, model.trainable_variables)
        strategy.run(replica, args=batch)

    for _ in range(2):
        for batch in strategy.experimental_distribute_dataset(data):
            step(batch)
    return model.get_weights()[0].tolist()

def split(strategy, how):
    model = make(strategy, keras.Sequential)
    logs = model.fit(
        data, epochs=2, verbose=0, validation_data=data, callbacks=[PenaltySplit()]
    ).history
    return [logs[key] for key in sorted(logs)]

found = {}
one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for name, run in (("step", own_step), ("loop", own_loop), ("split", split)):
    found[name] = [run(one, "model_penalty"), run(two, "model_penalty")]
found["add_n"] = own_step(two, "add_n")
print(json.dumps(found))
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_two_replicas_equal_one_device() -> None:
    """The penalty counts once in a train_step, a loop and the logs; summed losses count twice."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.splitlines()[-1])
    for name in ("step", "loop", "split"):
        one, two = map(np.asarray, found[name])
        assert two == pytest.approx(one, rel=1e-5), name
    data_loss, loss, penalty = np.asarray(found["split"][1])[:3]
    assert data_loss + penalty == pytest.approx(loss, rel=1e-6)
    assert penalty[0] > 0.1
    assert np.asarray(found["step"][0]) == pytest.approx(np.asarray(found["loop"][0]), rel=1e-5)
    assert np.max(np.abs(np.asarray(found["add_n"]) - found["step"][0])) > 0.01
