from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest

from experiments.optimizers import (
    apply_weight_decay_mask,
    build_optimizer,
    build_schedule,
    check_optimizer_config,
)
from experiments.schema import OptimizerConfig, Schedule


def _rates(config: OptimizerConfig, num_steps: int, steps: list[int]) -> list[float]:
    schedule = build_schedule(config, num_steps)
    return [float(schedule(step)) for step in steps]


def _model() -> keras.Model:
    """Dense, LayerNormalization and an output; every weight is 1."""
    inputs = keras.Input((2,))
    x = keras.layers.Dense(2, name="hidden")(inputs)
    x = keras.layers.LayerNormalization(name="norm")(x)
    model = keras.Model(inputs, keras.layers.Dense(1, name="output")(x))
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
    return model


def _fit_with_zero_gradients(model: keras.Model, optimizer: Any) -> dict[str, float]:
    """One step whose loss is zero; what is left of each weight, by its path."""
    model.compile(optimizer, loss=lambda y_true, y_pred: 0.0 * keras.ops.sum(y_pred))
    model.fit(np.ones((1, 2)), np.ones((1, 1)), verbose=0)
    return {v.path: float(v.numpy().ravel()[0]) for v in model.trainable_variables}


def test_constant_rate_without_warmup_is_a_float() -> None:
    """A constant rate stays a float, which a LearningRateScheduler callback can change."""
    assert build_schedule(OptimizerConfig(learning_rate=0.3), 100) == 0.3


def test_warmup_to_a_constant() -> None:
    """A tenth of 100 steps climbs from zero to the peak, which then holds."""
    config = OptimizerConfig(learning_rate=0.5, warmup_fraction=0.1)
    rates = _rates(config, 100, [0, 1, 5, 10, 50, 99])
    assert rates == pytest.approx([0.0, 0.05, 0.25, 0.5, 0.5, 0.5])


def test_cosine_falls_to_zero() -> None:
    """Cosine: the peak, 1/2 + sqrt(1/8) of it after a quarter, half after a half, then zero."""
    config = OptimizerConfig(learning_rate=0.2, schedule=Schedule.cosine)
    quarter = 0.2 * (0.5 + math.sqrt(0.125))
    rates = _rates(config, 100, [0, 25, 50, 100])
    assert rates == pytest.approx([0.2, quarter, 0.1, 0.0], abs=1e-7)


def test_cosine_after_warmup() -> None:
    """With half of the steps spent warming up, three quarters through is half the peak."""
    config = OptimizerConfig(learning_rate=0.2, schedule=Schedule.cosine, warmup_fraction=0.5)
    rates = _rates(config, 40, [10, 20, 30, 40])
    assert rates == pytest.approx([0.1, 0.2, 0.1, 0.0], abs=1e-7)


@pytest.mark.parametrize(("num_steps", "expected"), [(1, 0.2), (2, 0.0)])
def test_warmup_leaves_a_last_step(num_steps: int, expected: float) -> None:
    """In a run of a step or two the warm-up never takes all of them."""
    config = OptimizerConfig(learning_rate=0.2, warmup_fraction=0.9)
    schedule = build_schedule(config, num_steps)
    assert float(schedule(0) if callable(schedule) else schedule) == pytest.approx(expected)


def test_sgd_takes_momentum_and_clipping() -> None:
    """What the configuration says arrives in Keras' SGD."""
    config = OptimizerConfig(momentum=0.9, nesterov=True, global_clipnorm=2.0)
    optimizer = build_optimizer(config, 10, gradient_accumulation_steps=3)
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)
    assert (optimizer.clipnorm, optimizer.global_clipnorm) == (None, 2.0)
    assert (optimizer.gradient_accumulation_steps, optimizer.weight_decay) == (3, None)


def test_adam_takes_clipnorm() -> None:
    """Adam is Keras' Adam, without weight decay unless it is asked for."""
    optimizer = build_optimizer(OptimizerConfig("adam", clipnorm=1.0), 10)
    assert isinstance(optimizer, keras.optimizers.Adam)
    assert (optimizer.clipnorm, optimizer.weight_decay) == (1.0, None)
    assert optimizer.gradient_accumulation_steps is None


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_own_weight_decay_spares_biases_and_normalization(name: str) -> None:
    """With eta = 0.5 and lambda = 0.5 a step leaves 0.75 of a kernel and all of the rest."""
    model = _model()
    config = OptimizerConfig(name, learning_rate=0.5)
    optimizer = build_optimizer(config, 10, weight_decay=0.5, model=model)
    assert _fit_with_zero_gradients(model, optimizer) == {
        "hidden/kernel": 0.75,
        "hidden/bias": 1.0,
        "norm/gamma": 1.0,
        "norm/beta": 1.0,
        "output/kernel": 0.75,
        "output/bias": 1.0,
    }


def test_mask_reaches_the_optimizer_inside_a_loss_scale_optimizer() -> None:
    """The wrapper that mixed_float16 puts around the optimizer does not hide it."""
    model = _model()
    inner = build_optimizer(OptimizerConfig(learning_rate=0.5), 10, weight_decay=0.5)
    optimizer = keras.optimizers.LossScaleOptimizer(inner)
    apply_weight_decay_mask(optimizer, model)
    left = _fit_with_zero_gradients(model, optimizer)
    assert (left["hidden/kernel"], left["hidden/bias"], left["norm/gamma"]) == (0.75, 1.0, 1.0)


def test_mask_after_fit_is_refused() -> None:
    """A step that is compiled would ignore the mask, so setting it raises."""
    model = _model()
    optimizer = build_optimizer(OptimizerConfig(), 10, weight_decay=0.5)
    _fit_with_zero_gradients(model, optimizer)
    with pytest.raises(RuntimeError, match="Compile it again first"):
        apply_weight_decay_mask(optimizer, model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "momentum"}, r"one of \['adam', 'sgd'\]. Received: 'momentum'"),
        ({"momentum": 1.0}, r"in \[0, 1\). Received: optimizer.momentum=1.0"),
        ({"name": "adam", "momentum": 0.9}, "belong to sgd.*optimizer=momentum"),
        ({"name": "adam", "nesterov": True}, "belong to sgd"),
        ({"nesterov": True}, "Pass optimizer.momentum=0.9 too"),
        ({"warmup_fraction": 1.0}, r"in \[0, 1\). Received: optimizer.warmup_fraction=1.0"),
        ({"warmup_fraction": -0.1}, "For no warm-up pass 0"),
        ({"clipnorm": 0.0}, "positive. Received: optimizer.clipnorm=0.0"),
        ({"clipnorm": 1.0, "global_clipnorm": 2.0}, "Only one of.* Received: 1.0 and 2.0"),
    ],
)
def test_bad_values_raise(options: dict[str, Any], message: str) -> None:
    """A value that no optimizer can follow raises, with what came and the remedy."""
    with pytest.raises(ValueError, match=message):
        check_optimizer_config(OptimizerConfig(**options))
