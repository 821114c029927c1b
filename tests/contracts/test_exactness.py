"""Under plain SGD every form of L2 is one trajectory, in every way Keras can run a step.

Four linear layers, the towers, learn the same targets in one model: `decoupled` and `coupled`
are decayed by a callback each, `half_l2` and `builtin` have a regularizer. Nothing ties them,
so after any fit the four kernels must be equal, and equal to the one computed here in NumPy.
With `--full` a fit has 52 updates instead of 10.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

from l2keras import HalfL2, WeightDecay
from tests.support.models import (
    BACKEND,
    Linear,
    dense_model,
    fit,
    fit_zeros,
    kernel,
    linear_gradient,
    mse,
    random_data,
    relative_distance,
    to_numpy,
)

LAM = 0.125
BATCH_SIZE = 4
TOWERS = ("decoupled", "coupled", "half_l2", "builtin")
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


class Size(NamedTuple):
    """How long a fit is."""

    batches: int  # odd, and no multiple of 4: the last execution of an epoch is a shorter one
    epochs: int  # twice as many with two accumulation steps: as many updates in every case


SHORT, LONG = Size(5, 2), Size(13, 4)


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Size:
    return LONG if request.config.getoption("full") else SHORT


def linear_decay(step: int) -> float:
    """The schedule: exact in float32, and never below 0.09, so that eta * lam >= 0.01."""
    return 0.5 * (1 - step / 128)


def rate_of_epoch(epoch: int) -> float:
    """What the LearningRateScheduler callback sets."""
    return 0.5 * (1 - epoch / 16)


def learning_rate_at(rate: str, step: int, batches: int) -> float:
    """eta at `step`, which counts batches; Keras' schedules do so too under accumulation."""
    by_rate = {"schedule": linear_decay(step), "callback": rate_of_epoch(step // batches)}
    return by_rate.get(rate, 0.5)


def start() -> Any:
    """The first kernel of each tower."""
    return np.random.default_rng(5).normal(size=(3, 2))


@cache
def expected(size: Size, rate: str, accumulation: int, lam: float = LAM) -> Any:
    """The kernel after W <- W - eta * (g + lam * W), by hand in float64."""
    weight, (inputs, targets) = start(), random_data(size.batches * BATCH_SIZE)
    total = np.zeros_like(weight)
    for step in range(size.batches * size.epochs * accumulation):
        first = step % size.batches * BATCH_SIZE
        rows = slice(first, first + BATCH_SIZE)
        # the loss is a mean over the four towers, too
        total += linear_gradient(weight, inputs[rows], targets[rows]) / len(TOWERS)
        if (step + 1) % accumulation == 0:
            eta = learning_rate_at(rate, step, size.batches)
            assert eta * LAM >= 0.01
            weight = weight - eta * (total / accumulation + lam * weight)
            total = np.zeros_like(weight)
    return weight


def towers() -> Any:
    """The model of the module's docstring."""
    inputs = keras.Input((3,))
    regularizers = {"half_l2": HalfL2(LAM), "builtin": keras.regularizers.L2(LAM / 2)}
    outputs = [
        Linear(2, use_bias=False, kernel_regularizer=regularizers.get(name), name=name)(inputs)
        for name in TOWERS
    ]
    model = keras.Model(inputs, keras.layers.Concatenate()(outputs))
    model.set_weights([start()] * len(TOWERS))
    return model


def train(size: Size, rate: str, accumulation: int, **compile_arguments: Any) -> dict[str, Any]:
    """The kernel of each tower after the fit."""
    schedule = keras.optimizers.schedules.PolynomialDecay(0.5, 128, end_learning_rate=0.0)
    optimizer = keras.optimizers.SGD(
        schedule if rate == "schedule" else 0.5,
        gradient_accumulation_steps=accumulation if accumulation > 1 else None,
    )
    model = towers()
    model.compile(optimizer, mse, **compile_arguments)
    callbacks: list[Any] = [
        WeightDecay(LAM, include="decoupled/*"),
        WeightDecay(LAM, include="coupled/*", coupling="coupled"),
    ]
    if rate == "callback":
        callbacks.insert(0, keras.callbacks.LearningRateScheduler(rate_of_epoch))
    inputs, targets = random_data(size.batches * BATCH_SIZE)
    feed = inputs, np.tile(targets, len(TOWERS))
    fit(model, feed, callbacks, batch_size=BATCH_SIZE, epochs=size.epochs * accumulation)
    return {name: to_numpy(model.get_layer(name).kernel) for name in TOWERS}


@contextmanager
def quickly(mode: str) -> Iterator[None]:
    """Step by step, JAX would compile Keras' lax.cond anew at every step: 0.15 s each.

    Under disable_jit lax.cond runs the branch that it takes, as run_eagerly means it.
    """
    if BACKEND == "torch" and mode == "jit":
        import torch

        torch._dynamo.reset()  # else the recompile limit is met and the step runs uncompiled
    if BACKEND == "jax" and mode != "jit":
        import jax

        with jax.disable_jit():
            yield
    else:
        yield


def exists(cell: Mapping[str, Any]) -> bool:
    """Whether Keras has it: on torch only steps_per_execution=1, on JAX no graph mode.

    On JAX jit_compile=False runs as run_eagerly does.
    """
    if BACKEND == "torch":
        return bool(cell.get("steps_per_execution", 1) == 1)
    return not (BACKEND == "jax" and cell.get("mode") == "graph")


def is_affordable(cell: Mapping[str, Any]) -> bool:
    """Whether a cell takes less than some seconds.

    On torch, compiling the towers takes ten; JAX, step by step, compiles each operation alone.
    """
    if BACKEND == "jax":
        return not (cell.get("mode") == "eager" and cell.get("accumulation") == 2)
    return not (BACKEND == "torch" and cell.get("mode") == "jit")


@pytest.mark.factorial(
    mode=["graph", "jit", "eager"],
    steps_per_execution=[1, 4],
    accumulation=[1, 2],
    rate=["constant", "schedule", "callback"],
    dtype=["float32", "float64"],
    possible=exists,
    affordable=is_affordable,
)
def test_decay_and_penalty_are_one_trajectory(
    size: Size, mode: str, steps_per_execution: int, accumulation: int, rate: str, dtype: str
) -> None:
    """Decoupled, coupled, HalfL2(lam) and L2(lam / 2) agree with NumPy after every update."""
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    with quickly(mode):
        kernels = train(
            size,
            rate,
            accumulation,
            jit_compile=mode == "jit",
            run_eagerly=mode == "eager",
            steps_per_execution=steps_per_execution,
        )
    reference = expected(size, rate, accumulation)
    for name, result in kernels.items():
        assert result.dtype == dtype
        assert relative_distance(result, reference) < TOLERANCE[dtype], name
        assert relative_distance(result, kernels["half_l2"]) < TOLERANCE[dtype], name
        assert relative_distance(result, kernels["builtin"]) < TOLERANCE[dtype], name


@pytest.mark.parametrize("size", [SHORT, LONG])
def test_the_trajectory_is_another_one_without_decay(size: Size) -> None:
    """Doing nothing would be 10,000 times over the tolerance, and so would one step too few."""
    without = expected(size, "constant", 1, lam=0.0)
    assert relative_distance(without, expected(size, "constant", 1)) > 0.01


def test_penalty_and_decay_in_a_compiled_step() -> None:
    """With zero gradients, eta = 1/4 and both lams 1/2, a step leaves 1 - 1/8 - 1/8 = 3/4 of W."""
    model = dense_model(regularizer=HalfL2(0.5))
    model.compile(keras.optimizers.SGD(0.25), mse, jit_compile=True)
    before = kernel(model)
    fit_zeros(model, 3, [WeightDecay(0.5)])
    assert relative_distance(kernel(model), 0.75**3 * before) < 1e-6
