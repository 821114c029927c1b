"""Decay is in the step for one `fit`, and nowhere afterwards, however that fit ended."""

from __future__ import annotations

import inspect
from collections.abc import Callable
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
    mse,
    relative_distance,
    to_numpy,
)

ETA, LAM = 0.5, 0.25
FACTOR = 1 - ETA * LAM


def compiled(**arguments: Any) -> Any:
    model = dense_model()
    model.compile(keras.optimizers.SGD(ETA), mse, **arguments)
    return model


def shrinkage(model: Any, run: Callable[[], Any]) -> float:
    """What `run` multiplied the kernel by; raises unless it is one factor for all of it."""
    before = kernel(model)
    run()
    ratio = kernel(model) / before
    assert np.ptp(ratio) < 1e-6
    return float(ratio.mean())


@pytest.mark.parametrize("jit", [False, True])
def test_every_fit_does_what_it_says(jit: bool) -> None:
    """Fits with another lam, mask, coupling or no callback follow each other without compile."""
    runs: list[tuple[list[WeightDecay], float]] = [
        ([], 1.0),
        ([WeightDecay(LAM)], FACTOR),
        ([WeightDecay(2 * LAM)], 1 - 2 * ETA * LAM),
        ([], 1.0),
        ([WeightDecay(LAM, coupling="independent")], 1 - LAM),
        ([WeightDecay(LAM, include="*bias*", exclude=None)], 1.0),
        ([WeightDecay(LAM, coupling="coupled")], FACTOR),
        ([], 1.0),
    ]
    model = dense_model(use_bias=True)
    # torch.compile takes half a minute for these; test_exactness has it
    model.compile(keras.optimizers.SGD(ETA), mse, jit_compile=jit and BACKEND != "torch")
    for callbacks, expected in runs:
        model.get_layer("dense").bias.assign(np.zeros(2))
        found = shrinkage(model, lambda c=callbacks: fit_zeros(model, 1, c))  # type: ignore[misc]  # a bound default
        assert found == pytest.approx(expected, rel=1e-6), callbacks


def test_the_lam_of_a_callback_may_be_set_between_fits() -> None:
    """Setting `lam` on the callback counts from the next fit on."""
    model, decay = compiled(), WeightDecay(LAM)
    assert shrinkage(model, lambda: fit_zeros(model, 1, [decay])) == pytest.approx(FACTOR)
    decay.lam = 2 * LAM
    assert shrinkage(model, lambda: fit_zeros(model, 1, [decay])) == pytest.approx(0.75)


@pytest.mark.parametrize("groups", [1, 2])
def test_the_same_callbacks_twice_are_traced_once(groups: int) -> None:
    """A second fit with the same callbacks reuses the compiled step; compile or lam does not."""
    if BACKEND == "torch":
        pytest.skip("Keras on torch runs the step in Python every time")
    model, decay = dense_model(use_bias=True), WeightDecay(LAM)
    model.compile(keras.optimizers.SGD(ETA), mse, jit_compile=True)
    callbacks = [decay, WeightDecay(LAM, include="*/bias")][:groups]
    fit_zeros(model, 1, callbacks)
    first = decay._train_function
    assert first is not None
    fit_zeros(model, 1, callbacks)
    second = decay._train_function
    assert second is not None
    assert second is not first
    assert second._compiled is first._compiled
    model.compile(keras.optimizers.SGD(ETA), mse, jit_compile=True)
    fit_zeros(model, 1, [decay])
    third = decay._train_function
    assert third is not None
    assert third._compiled is not first._compiled


@pytest.mark.parametrize("wrapped", [False, True])
def test_model_and_optimizer_are_left_as_they_were(wrapped: bool) -> None:
    """After a fit the optimizer's config and attributes, and the model's, are those of before."""
    model = compiled()
    if wrapped:
        scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(ETA))
        model.compile(scaled, mse)
    fit_zeros(model, 1)
    function, attributes = model.train_function, set(vars(model))
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    config, parts = optimizer.get_config(), dict(vars(optimizer))
    fit_zeros(model, 1, [WeightDecay(LAM)])
    assert optimizer.get_config() == config
    assert vars(optimizer).keys() == parts.keys()
    assert "_backend_update_step" not in vars(optimizer)
    assert optimizer.weight_decay is None
    assert model.train_function is function
    assert set(vars(model)) == attributes


class Breaks(keras.callbacks.Callback):
    """Raises from one of its hooks."""

    def __init__(self, hook: str, error: type[BaseException]) -> None:
        super().__init__()
        setattr(self, hook, self._raise)
        self._error = error

    def _raise(self, *arguments: Any, **named: Any) -> None:
        raise self._error


@pytest.mark.factorial(
    hook=["on_train_begin", "on_epoch_begin", "on_train_batch_begin", "on_train_batch_end",
          "on_epoch_end", "on_train_end"],
    error=[RuntimeError, KeyboardInterrupt],
    first=[True, False],
)  # fmt: skip
def test_a_fit_that_was_broken_off_leaves_nothing(
    hook: str, error: type[BaseException], first: bool
) -> None:
    """After an exception or Ctrl-C anywhere in a fit, no later training decays anything."""
    model = compiled()
    breaks, decay = Breaks(hook, error), WeightDecay(LAM)
    with pytest.raises(error):
        fit_zeros(model, 2, [breaks, decay] if first else [decay, breaks])
    zeros = np.zeros((1, 3), "float32"), np.zeros((1, 2), "float32")
    assert shrinkage(model, lambda: apply_zero_gradient(model)) == 1.0
    assert shrinkage(model, lambda: model.train_on_batch(*zeros)) == 1.0
    assert shrinkage(model, lambda: fit_zeros(model, 2)) == 1.0
    assert shrinkage(model, lambda: fit_zeros(model, 1, [WeightDecay(LAM)])) == pytest.approx(
        FACTOR
    )


def apply_zero_gradient(model: Any) -> None:
    """What a training loop of the user's own does."""
    variables = model.trainable_variables
    if not model.optimizer.built:
        model.optimizer.build(variables)
    model.optimizer.apply([keras.ops.zeros(v.shape) for v in variables], variables)


def test_a_step_that_raises_leaves_nothing() -> None:
    """An exception from inside the train step leaves the optimizer clean."""
    model = compiled(run_eagerly=True)

    def explode(y_true: Any, y_pred: Any) -> Any:
        raise ArithmeticError("inside the step")

    model.compile(model.optimizer, explode, run_eagerly=True)
    with pytest.raises(ArithmeticError):
        fit_zeros(model, 1, [WeightDecay(LAM)])
    assert "_backend_update_step" not in vars(model.optimizer)
    model.compile(model.optimizer, mse)
    assert shrinkage(model, lambda: fit_zeros(model, 1)) == 1.0


def test_train_on_batch_after_a_fit_does_not_decay() -> None:
    """Decay belongs to the fit that has the callback, not to train_on_batch."""
    model = compiled()
    fit_zeros(model, 1, [WeightDecay(LAM)])
    zeros = np.zeros((1, 3), "float32"), np.zeros((1, 2), "float32")
    assert shrinkage(model, lambda: model.train_on_batch(*zeros)) == 1.0


def test_unfreezing_in_mid_fit_keeps_decaying() -> None:
    """A callback that unfreezes a layer and asks for a new train function keeps the decay."""

    class Unfreeze(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                self.model.get_layer("dense").trainable = True
                self.model.make_train_function(force=True)

    other = keras.layers.Dense(3, use_bias=False, name="other")
    inner = dense_model().get_layer("dense")
    model = keras.Sequential([keras.Input((3,)), other, inner])
    optimizer = keras.optimizers.SGD(ETA)
    optimizer.build(model.trainable_variables)
    inner.trainable = False
    model.compile(optimizer, mse)
    if BACKEND == "jax":
        pytest.skip("Keras on JAX fixes the trainable variables when fit begins")
    before = model.get_weights()
    fit_zeros(model, 1, [WeightDecay(LAM), Unfreeze()], epochs=2)
    after = model.get_weights()
    assert relative_distance(after[0], before[0] * FACTOR**2) < 1e-6
    assert relative_distance(after[1], before[1] * FACTOR) < 1e-6
    assert shrinkage(model, lambda: None) == 1.0
    assert inspect.ismethod(model.make_train_function)


def test_a_model_that_is_built_by_fit() -> None:
    """A subclassed model without shapes is decayed from its first step on."""

    class Lazy(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(2, kernel_initializer="ones", name="dense")

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs)

    model = Lazy()
    model.compile(keras.optimizers.SGD(ETA), "mse")
    zeros = np.zeros((3, 3), "float32"), np.zeros((3, 2), "float32")
    model.fit(*zeros, batch_size=1, verbose=0, callbacks=[WeightDecay(LAM)])
    np.testing.assert_allclose(to_numpy(model.dense.kernel), FACTOR**3, rtol=1e-6)


def test_a_wrong_pattern_on_a_model_that_is_built_by_fit() -> None:
    """There too a pattern that matches nothing raises."""
    model = keras.Sequential([keras.layers.Dense(2, name="dense")])
    model.compile(keras.optimizers.SGD(ETA), "mse")
    zeros = np.zeros((3, 3), "float32"), np.zeros((3, 2), "float32")
    with pytest.raises(ValueError, match="nearest paths are"):
        model.fit(*zeros, batch_size=1, verbose=0, callbacks=[WeightDecay(LAM, include="nope")])


def test_nested_and_shared_layers_decay_once() -> None:
    """A layer that is used twice, inside a nested model, shrinks by one factor a step."""
    shared = keras.layers.Dense(3, use_bias=False, name="shared")
    block_input = keras.Input((3,))
    block = keras.Model(block_input, shared(shared(block_input)), name="block")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, block(block(inputs)))
    model.compile(keras.optimizers.SGD(ETA), mse)
    before = model.get_weights()[0]
    fit_zeros(model, 2, [WeightDecay(LAM)])
    assert relative_distance(model.get_weights()[0], before * FACTOR**2) < 1e-6


def test_keras_still_builds_its_train_function_this_way() -> None:
    """Keras' trainers have the attribute and the method that the callback takes the place of."""
    model = compiled()
    assert model.train_function is None
    assert "force" in inspect.signature(model.make_train_function).parameters
    model.make_train_function()
    first = model.train_function
    model.make_train_function()
    assert model.train_function is first
    model.compile(model.optimizer, mse)
    assert model.train_function is None
    assert model in model._flatten_layers()
