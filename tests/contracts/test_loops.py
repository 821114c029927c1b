"""WeightDecay in training loops without fit."""

from __future__ import annotations

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
    linear_gradient,
    mse,
    random_data,
    relative_distance,
)

STEPS, BATCH_SIZE, ETA, LAM = 6, 4, 0.125, 0.5

pytestmark = pytest.mark.usefixtures("float64")


def by_hand(lam: float) -> Any:
    """(1 - eta * lam) * W - eta * gradient, six times."""
    weight = kernel(dense_model())
    for inputs, targets in batches():
        gradient = linear_gradient(weight, inputs, targets)
        weight = (1 - ETA * lam) * weight - ETA * gradient
    return weight


def batches() -> list[tuple[Any, Any]]:
    inputs, targets = random_data(STEPS * BATCH_SIZE)
    rows = [slice(i, i + BATCH_SIZE) for i in range(0, STEPS * BATCH_SIZE, BATCH_SIZE)]
    return [(inputs[one], targets[one]) for one in rows]


def tensorflow_step(model: Any, optimizer: Any) -> Any:
    import tensorflow as tf

    @tf.function
    def step(inputs: Any, targets: Any) -> None:
        with tf.GradientTape() as tape:
            value = keras.ops.sum(keras.ops.square(model(inputs) - targets)) / 8
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    return lambda inputs, targets: step(tf.constant(inputs), tf.constant(targets))


def jax_step(model: Any, optimizer: Any) -> Any:
    import jax

    optimizer.build(model.trainable_variables)

    def value(trainable: Any, inputs: Any, targets: Any) -> Any:
        outputs, _ = model.stateless_call(trainable, [], inputs)
        return keras.ops.sum(keras.ops.square(outputs - targets)) / 8

    @jax.jit
    def step(trainable: Any, state: Any, inputs: Any, targets: Any) -> Any:
        gradients = jax.grad(value)(trainable, inputs, targets)
        return optimizer.stateless_apply(state, gradients, trainable)

    def run(inputs: Any, targets: Any) -> None:
        trainable = [v.value for v in model.trainable_variables]
        state = [v.value for v in optimizer.variables]
        trainable, state = step(trainable, state, inputs, targets)
        for variable, new in zip(model.trainable_variables, trainable, strict=True):
            variable.assign(new)
        for variable, new in zip(optimizer.variables, state, strict=True):
            variable.assign(new)

    return run


def torch_step(model: Any, optimizer: Any) -> Any:
    import torch

    def run(inputs: Any, targets: Any) -> None:
        model.zero_grad()
        outputs = model(torch.tensor(inputs))
        (torch.sum((outputs - torch.tensor(targets)) ** 2) / 8).backward()
        gradients = [v.value.grad for v in model.trainable_variables]
        with torch.no_grad():
            optimizer.apply(gradients, model.trainable_variables)

    return run


MAKE_STEP = {"tensorflow": tensorflow_step, "jax": jax_step, "torch": torch_step}[BACKEND]


def test_a_loop_of_ones_own_decays_inside_the_block() -> None:
    """The backend's own loop equals the equation inside the block, and the plain one outside."""
    for lam in (LAM, 0.0):
        model, optimizer = dense_model(), keras.optimizers.SGD(ETA)
        step = MAKE_STEP(model, optimizer)
        if lam:
            with WeightDecay(lam).in_step(model, optimizer):
                for batch in batches():
                    step(*batch)
        else:
            for batch in batches():
                step(*batch)
        assert relative_distance(kernel(model), by_hand(lam)) < 1e-12
    assert relative_distance(by_hand(0.0), by_hand(LAM)) > 1e-2


def test_blocks_nest_and_leave_nothing_behind() -> None:
    """Two groups in two blocks; after them the optimizer is what it was."""
    model, optimizer = dense_model(use_bias=True), keras.optimizers.SGD(ETA)
    dense = model.get_layer("dense")
    dense.bias.assign([1.0, 2.0])
    optimizer.build(model.trainable_variables)
    attributes, before = set(vars(optimizer)), kernel(model)
    zeros = [keras.ops.zeros(v.shape, v.dtype) for v in model.trainable_variables]
    with WeightDecay(LAM).in_step(model, optimizer):
        with WeightDecay(1.0, include="*/bias").in_step(model, optimizer):
            optimizer.apply(zeros, model.trainable_variables)
        optimizer.apply(zeros, model.trainable_variables)
    optimizer.apply(zeros, model.trainable_variables)
    assert set(vars(optimizer)) == attributes
    assert relative_distance(kernel(model), before * (1 - ETA * LAM) ** 2) < 1e-12
    bias = keras.ops.convert_to_numpy(dense.bias)
    assert relative_distance(bias, np.array([1.0, 2.0]) * (1 - ETA)) < 1e-12


def test_a_model_without_an_optimizer_asks_for_one() -> None:
    """in_step takes the optimizer of the compiled model, or the one it is given."""
    with (
        pytest.raises(TypeError, match="`optimizer` must be a Keras optimizer"),
        WeightDecay(LAM).in_step(dense_model(), "sgd"),
    ):
        pass
    with (
        pytest.raises(ValueError, match="`in_step` needs the variables of the model"),
        WeightDecay(LAM).in_step(keras.Sequential([keras.layers.Dense(2)]), "sgd"),
    ):
        pass
    with (
        pytest.raises(ValueError, match="needs the optimizer of the model"),
        WeightDecay(LAM).in_step(dense_model()),
    ):
        pass


def test_train_on_batch_decays_inside_the_block_only() -> None:
    """Steps that Keras compiled before the block decay in it, and not after it."""
    model = dense_model()
    model.compile(keras.optimizers.SGD(ETA), mse)
    zeros = np.zeros((4, 3)), np.zeros((4, 2))
    model.train_on_batch(*zeros)
    before = kernel(model)
    with WeightDecay(LAM).in_step(model):
        model.train_on_batch(*zeros)
        model.train_on_batch(*zeros)
    expected = before * (1 - ETA * LAM) ** 2
    assert relative_distance(kernel(model), expected) < 1e-12
    model.train_on_batch(*zeros)
    assert relative_distance(kernel(model), expected) < 1e-12


def test_fits_in_turn_have_their_own_decay() -> None:
    """No fit runs a step that an earlier one traced, also while somebody holds that step."""
    model = dense_model()
    model.compile(keras.optimizers.SGD(ETA), mse)
    held = []
    for lam in (0.0, LAM, LAM / 2, 0.0):
        before = kernel(model)
        fit_zeros(model, 2, [WeightDecay(lam)] if lam else [])
        held.append(model.train_function)
        assert relative_distance(kernel(model), before * (1 - ETA * lam) ** 2) < 1e-12


def test_blocks_and_fits_do_not_decay_twice() -> None:
    """A variable that a block around decays already is refused, in a block and in fit."""
    model = dense_model()
    model.compile(keras.optimizers.SGD(ETA), mse)
    message = "may be decayed by one WeightDecay"
    with WeightDecay(LAM).in_step(model):
        with pytest.raises(ValueError, match=message), WeightDecay(LAM).in_step(model):
            pass
        with pytest.raises(ValueError, match=message):
            fit_zeros(model, 1, [WeightDecay(LAM)])
    before = kernel(model)
    fit_zeros(model, 1, [WeightDecay(LAM)])
    assert relative_distance(kernel(model), before * (1 - ETA * LAM)) < 1e-12
