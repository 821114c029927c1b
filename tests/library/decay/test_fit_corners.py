"""What other callbacks, wrappers and `compile` do around a decayed fit."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import WeightDecay
from tests.support.models import (
    BACKEND,
    dense_model,
    fit_zeros,
    kernel,
    relative_distance,
    to_numpy,
)

ETA, LAM = 0.5, 0.5
FACTOR = 1 - ETA * LAM


def compiled(**optimizer: Any) -> Any:
    """A linear layer under SGD with learning rate 0.5."""
    model = dense_model()
    model.compile(keras.optimizers.SGD(ETA, **optimizer), "mse")
    return model


class Interrupt(keras.callbacks.Callback):
    """Ctrl-C at the end of the first epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        raise KeyboardInterrupt


def test_compile_after_an_interrupted_fit_counts() -> None:
    """A fit after compile uses the new optimizer, not the function that was put aside before."""
    model = compiled()
    fit_zeros(model, 2)  # traces a function with the first optimizer
    with pytest.raises(KeyboardInterrupt):
        fit_zeros(model, 2, [WeightDecay(LAM), Interrupt()])
    before = kernel(model)
    model.compile(keras.optimizers.SGD(0.25, weight_decay=1.0), "mse")
    fit_zeros(model, 3)
    assert int(to_numpy(model.optimizer.iterations)) == 3
    assert relative_distance(kernel(model), before * (1 - 0.25 * 1.0) ** 3) < 1e-6


def test_compile_counts_while_the_callback_is_kept() -> None:
    """A callback that outlives its fit holds no step that JAX would share with the next one."""
    model, decay = compiled(), WeightDecay(LAM)
    fit_zeros(model, 2)
    fit_zeros(model, 2, [decay])
    before = kernel(model)
    model.compile(keras.optimizers.SGD(0.25, weight_decay=1.0), "mse")
    fit_zeros(model, 3)
    assert relative_distance(kernel(model), before * (1 - 0.25 * 1.0) ** 3) < 1e-6
    assert decay.report is not None


class OneMore(keras.callbacks.Callback):
    """Trains on a batch of its own at the start of the fit and of every epoch."""

    def on_train_begin(self, logs: Any = None) -> None:
        zeros = np.zeros((1, 3), "float32"), np.zeros((1, 2), "float32")
        self.model.train_on_batch(*zeros)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.on_train_begin()


def test_train_on_batch_in_mid_fit_does_not_end_the_decay() -> None:
    """A callback that calls train_on_batch takes the decay out for that one batch only."""
    model = compiled()
    before = kernel(model)
    fit_zeros(model, 2, [WeightDecay(LAM), OneMore()], epochs=3)
    assert relative_distance(kernel(model), before * FACTOR**6) < 1e-6
    before = kernel(model)
    fit_zeros(model, 2)
    np.testing.assert_array_equal(kernel(model), before)


def test_groups_come_back_together_after_train_on_batch() -> None:
    """With several callbacks every group goes on decaying, each by its own lam."""
    layers = [keras.layers.Dense(2, use_bias=False, name=name) for name in ("first", "second")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.SGD(ETA), "mse")
    before = model.get_weights()
    groups = [WeightDecay(0.25, include="*first*"), WeightDecay(0.5, include="*second*")]
    fit_zeros(model, 2, [*groups, OneMore()], epochs=2)
    after = model.get_weights()
    assert relative_distance(after[0], before[0] * (1 - ETA * 0.25) ** 4) < 1e-6
    assert relative_distance(after[1], before[1] * (1 - ETA * 0.5) ** 4) < 1e-6


def test_an_epoch_may_pass_without_an_update() -> None:
    """Gradients accumulated over two epochs make one update, with one decay, and no error."""
    model = dense_model()
    optimizer = keras.optimizers.SGD(ETA, gradient_accumulation_steps=4)
    model.compile(optimizer, "mse", run_eagerly=True)
    before = kernel(model)
    logs = fit_zeros(model, 2, [WeightDecay(LAM)], epochs=2)
    assert relative_distance(kernel(model), before * FACTOR) < 1e-6
    assert logs["decay_per_step"] == [0.25, 0.25]


def test_the_log_is_that_of_the_last_update() -> None:
    """When an epoch ends inside an accumulation the log shows the rate of the update before."""
    schedule = keras.optimizers.schedules.PolynomialDecay(0.5, 8, end_learning_rate=0.0)
    model = dense_model()
    model.compile(keras.optimizers.SGD(schedule, gradient_accumulation_steps=2), "mse")
    before = kernel(model)
    logs = fit_zeros(model, 3, [WeightDecay(LAM)])
    rate = 0.5 * (1 - 1 / 8)  # the update is made with the second batch
    assert logs["decay_per_step"] == [rate * LAM]
    assert relative_distance(kernel(model), before * (1 - rate * LAM)) < 1e-6


def by_function() -> Any:
    """A MultiOptimizer whose members are known when it is built, not before."""
    member = keras.optimizers.SGD(ETA)
    return keras.optimizers.MultiOptimizer(lambda variable: member)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_multi_optimizer_with_a_function(policy: str) -> None:
    """Its members are hooked in the first step already, wrapped in loss scaling or not."""
    keras.config.set_dtype_policy(policy)
    model = dense_model()
    model.compile(by_function(), "mse")
    assert hasattr(model.optimizer, "inner_optimizer") == (policy == "mixed_float16")
    before = kernel(model)
    logs = fit_zeros(model, 3, [WeightDecay(LAM)])
    assert relative_distance(kernel(model), before * FACTOR**3) < 1e-6
    assert logs["decay_per_step"] == [0.25]


def test_a_multi_optimizer_with_a_function_needs_a_built_model() -> None:
    """Where fit builds the model in its first step the members cannot be known: it raises."""
    layer = keras.layers.Dense(2, use_bias=False, kernel_initializer="ones")
    model = keras.Sequential([layer])
    model.compile(by_function(), "mse")
    zeros = np.zeros((1, 3), "float32")
    if BACKEND == "tensorflow":
        with pytest.raises(ValueError, match=r"members of a MultiOptimizer.*Build the model first"):
            model.fit(zeros, zeros[:, :2], verbose=0, callbacks=[WeightDecay(LAM)])
        model.build((None, 3))
    model.fit(zeros, zeros[:, :2], verbose=0, callbacks=[WeightDecay(LAM)])
    np.testing.assert_allclose(to_numpy(layer.kernel), FACTOR, rtol=1e-6)


def test_a_step_that_is_skipped_throughout_is_no_error() -> None:
    """An epoch in which every step overflows decays nothing and raises nothing."""
    keras.config.set_dtype_policy("mixed_float16")
    model = dense_model()
    model.compile(keras.optimizers.SGD(ETA), "mse", run_eagerly=True)
    before = kernel(model)
    inputs = np.full((2, 3), np.inf, "float32")
    model.fit(inputs, np.zeros((2, 2), "float32"), verbose=0, callbacks=[WeightDecay(LAM)])
    np.testing.assert_array_equal(kernel(model), before)


def test_loss_scaling_skips_the_decay_of_the_steps_it_skips() -> None:
    """A loss scale of 2**20 overflows six times by hand, so that four of ten steps decay."""
    keras.config.set_dtype_policy("mixed_float16")
    model = dense_model(units=1, use_bias=True)
    optimizer = keras.optimizers.SGD(ETA)
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**20), "mse")
    before = kernel(model)
    inputs, targets = np.zeros((10, 3), "float32"), np.ones((10, 1), "float32")
    # The gradient at the float16 output is -2 * scale: infinite from scale = 2**15 on.
    model.fit(inputs, targets, batch_size=1, shuffle=False, verbose=0, callbacks=[WeightDecay(LAM)])
    assert int(to_numpy(optimizer.iterations)) == 4
    assert relative_distance(kernel(model), before * FACTOR**4) < 1e-6


def with_inner_function(part: str, **compiled: Any) -> Any:
    """A model with gradient zero, whose `train_step` is, or calls, a tf.function."""
    import tensorflow as tf

    def step(self: Any, data: Any) -> Any:
        self.optimizer.apply([keras.ops.zeros((3, 2))], self.trainable_variables)
        return {"loss": keras.ops.zeros(())}

    def call_update(self: Any, data: Any) -> Any:
        return self.update(data)

    own = {"update": tf.function(step), "train_step": call_update}
    whole = {"train_step": tf.function(step)}
    kind = type("Own", (keras.Sequential,), whole if part == "train_step" else own)
    model = kind([keras.Input((3,)), *dense_model().layers])
    model.compile(keras.optimizers.SGD(ETA), **compiled)
    return model


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.function is TensorFlow's")
@pytest.mark.parametrize(
    ("part", "compiled", "in_block"),
    [
        ("train_step", {"run_eagerly": True}, False),
        ("update", {}, False),
        ("train_step", {}, True),
    ],
)
def test_a_compiled_function_in_the_step_is_refused(
    part: str, compiled: dict[str, Any], in_block: bool
) -> None:
    """It would keep the decay: the first step raises, and a later fit does not decay."""
    model = with_inner_function(part, **compiled)
    before = kernel(model)
    callbacks = [] if in_block else [WeightDecay(LAM)]
    block = WeightDecay(LAM).in_step(model) if in_block else nullcontext()
    with block, pytest.raises(RuntimeError, match=r"Received: the tf.function `\w+` inside it"):
        fit_zeros(model, 1, callbacks)
    fit_zeros(model, 1)
    np.testing.assert_array_equal(kernel(model), before)
    with pytest.raises(RuntimeError, match=rf"never ran.*tf.function {part}. Leave out @tf.func"):
        fit_zeros(model, 1, [WeightDecay(LAM)])  # it was traced without decay
