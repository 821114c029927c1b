from __future__ import annotations

import inspect
import math
from typing import Any

import keras
import numpy as np
import pytest

from l2keras_experiments.config import nodes, paths
from l2keras_experiments.config.schema import ConfigError, OptimizerConfig
from l2keras_experiments.training.optimizers import (
    apply_weight_decay_mask,
    build_optimizer,
    build_schedule,
    check_optimizer_config,
    check_own_decay,
)
from tests.support import factorial
from tests.support.configs import of_target, optimizer
from tests.support.runs import Compose

OPTIONS = sorted(path.stem for path in (paths.CONFIGS / "optimizer").glob("*.yaml"))
# Ftrl and ScheduleFreeAdamW do not step from W: see check_own_decay.
DECAYING = [name for name in OPTIONS if name not in ("ftrl", "schedule_free_adamw")]


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


def _fit_with_zero_gradients(model: keras.Model, given: Any) -> dict[str, float]:
    """One step whose loss is zero; what is left of each weight, by its path."""
    model.compile(given, loss=lambda y_true, y_pred: 0.0 * keras.ops.sum(y_pred), run_eagerly=True)
    model.fit(np.ones((1, 2)), np.ones((1, 1)), verbose=0)
    return {v.path: float(v.numpy().ravel()[0]) for v in model.trainable_variables}


def test_constant_rate_without_warmup_is_a_float() -> None:
    """A constant rate stays a float, which a LearningRateScheduler callback can change."""
    assert build_schedule(optimizer(learning_rate=0.3), 100) == 0.3


def test_warmup_to_a_constant() -> None:
    """A tenth of 100 steps climbs from zero to the peak, which then holds."""
    config = optimizer(learning_rate=0.5, warmup_fraction=0.1)
    rates = _rates(config, 100, [0, 1, 5, 10, 50, 99])
    assert rates == pytest.approx([0.0, 0.05, 0.25, 0.5, 0.5, 0.5])


def test_cosine_falls_to_zero() -> None:
    """Cosine: the peak, 1/2 + sqrt(1/8) of it after a quarter, half after a half, then zero."""
    config = optimizer(learning_rate=0.2, schedule="cosine")
    quarter = 0.2 * (0.5 + math.sqrt(0.125))
    rates = _rates(config, 100, [0, 25, 50, 100])
    assert rates == pytest.approx([0.2, quarter, 0.1, 0.0], abs=1e-7)


def test_cosine_after_warmup() -> None:
    """With half of the steps spent warming up, three quarters through is half the peak."""
    config = optimizer(learning_rate=0.2, schedule="cosine", warmup_fraction=0.5)
    rates = _rates(config, 40, [10, 20, 30, 40])
    assert rates == pytest.approx([0.1, 0.2, 0.1, 0.0], abs=1e-7)


@pytest.mark.parametrize(("num_steps", "expected"), [(1, 0.2), (2, 0.0)])
def test_warmup_leaves_a_last_step(num_steps: int, expected: float) -> None:
    """In a run of a step or two the warm-up never takes all of them."""
    config = optimizer(learning_rate=0.2, warmup_fraction=0.9)
    schedule = build_schedule(config, num_steps)
    assert float(schedule(0) if callable(schedule) else schedule) == pytest.approx(expected)


def test_sgd_takes_momentum_and_clipping() -> None:
    """What the configuration says arrives in Keras' SGD."""
    config = optimizer("sgd", momentum=0.9, nesterov=True, global_clipnorm=2.0)
    built = build_optimizer(config, 10, gradient_accumulation_steps=3)
    assert isinstance(built, keras.optimizers.SGD)
    assert (built.momentum, built.nesterov) == (0.9, True)
    assert (built.clipnorm, built.global_clipnorm) == (None, 2.0)
    assert (built.gradient_accumulation_steps, built.weight_decay) == (3, None)


def test_adam_takes_clipnorm() -> None:
    """Adam is Keras' Adam, without weight decay unless it is asked for."""
    built = build_optimizer(optimizer("adam", clipnorm=1.0, beta_2=0.5), 10)
    assert isinstance(built, keras.optimizers.Adam)
    assert (built.clipnorm, built.weight_decay, built.beta_2) == (1.0, None, 0.5)
    assert built.gradient_accumulation_steps is None


def test_every_optimizer_of_keras_has_an_option() -> None:
    """All classes but the base and those that hold other optimizers."""
    wrappers = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap"}
    classes = {name for name, found in vars(keras.optimizers).items() if inspect.isclass(found)}
    files = (paths.CONFIGS / "optimizer").glob("*.yaml")
    targets = {str(nodes.target_of(path)) for path in files}
    assert targets == {f"keras.optimizers.{name}" for name in classes - wrappers}


@pytest.mark.parametrize("name", factorial.sample(OPTIONS, 6))
def test_every_option_takes_a_step(name: str, composed: Compose) -> None:
    """As it stands in its file, under a schedule."""
    node = composed("config", f"optimizer={name}", "optimizer.schedule=cosine")
    config = nodes.to_config(node).optimizer
    check_optimizer_config(config)
    model = _model()
    model.compile(build_optimizer(config, 10, model=model), "mse", run_eagerly=True)
    model.train_on_batch(np.array([[1.0, 3.0]]), np.array([[4.0]]))
    bias = float(model.get_layer("output").bias.numpy()[0])
    assert math.isfinite(bias)
    assert bias != 1.0


@pytest.mark.parametrize("name", factorial.sample(OPTIONS, 6))
def test_no_optimizer_decays_on_its_own_account(name: str) -> None:
    """AdamW and Muon would by default: a step without gradient leaves every weight."""
    model = _model()
    built = build_optimizer(optimizer(name, learning_rate=0.5), 10, model=model)
    left = _fit_with_zero_gradients(model, built)
    if name == "ftrl":  # steps from its accumulators, not from W
        assert set(left.values()) == {0.0}
    else:
        assert set(left.values()) == {1.0}


@pytest.mark.parametrize("name", DECAYING)
def test_own_weight_decay_spares_biases_and_normalization(name: str) -> None:
    """With eta = 0.5 and lambda = 0.5 a step leaves 0.75 of a kernel and all of the rest."""
    model = _model()
    built = build_optimizer(optimizer(name, learning_rate=0.5), 10, weight_decay=0.5, model=model)
    assert _fit_with_zero_gradients(model, built) == {
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
    inner = build_optimizer(optimizer(learning_rate=0.5), 10, weight_decay=0.5)
    wrapper = keras.optimizers.LossScaleOptimizer(inner)
    apply_weight_decay_mask(wrapper, model)
    left = _fit_with_zero_gradients(model, wrapper)
    assert (left["hidden/kernel"], left["hidden/bias"], left["norm/gamma"]) == (0.75, 1.0, 1.0)


def test_mask_after_fit_is_refused() -> None:
    """A step that is compiled would ignore the mask, so setting it raises."""
    model = _model()
    built = build_optimizer(optimizer(), 10, weight_decay=0.5)
    _fit_with_zero_gradients(model, built)
    with pytest.raises(RuntimeError, match="Compile it again first"):
        apply_weight_decay_mask(built, model)


def test_muon_decays_what_adam_updates_too() -> None:
    """An embedding is Adam's; with eta = 0.5 and lambda = 0.5 a step leaves 0.75 of it."""
    model = keras.Sequential([keras.Input((1,), dtype="int32"), keras.layers.Embedding(3, 2)])
    model.set_weights([np.ones((3, 2))])
    built = build_optimizer(optimizer("muon", learning_rate=0.5), 10, weight_decay=0.5, model=model)
    model.compile(built, loss=lambda y_true, y_pred: 0.0 * keras.ops.sum(y_pred), run_eagerly=True)
    model.fit(np.zeros((1, 1), "int32"), np.ones((1, 1, 2)), verbose=0)
    assert model.get_weights()[0].tolist() == [[0.75, 0.75]] * 3


@pytest.mark.parametrize("name", ["ftrl", "schedule_free_adamw"])
def test_own_decay_of_what_does_not_step_from_w_raises(name: str) -> None:
    """Their steps overwrite what decays W, so lambda would not be what it says."""
    config = optimizer(name)
    with pytest.raises(ConfigError, match="needs an optimizer that steps from W"):
        check_own_decay(config)
    with pytest.raises(ConfigError, match="needs an optimizer that steps from W"):
        build_optimizer(config, 10, weight_decay=0.5)


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("sgd", {"momentum": 1.0}, r"in \[0, 1\). Received: optimizer.momentum=1.0"),
    ("adam", {"momentum": 0.9}, r"keys that keras.optimizers.Adam takes. Received: optimizer.mom"),
    ("adam", {"momentum": 0.0}, "argument of optimizer=sgd. Leave it out, or choose optimizer=ad"),
    ("adam", {"nesterov": True}, "Received: optimizer.nesterov=True"),
    ("adam", {"lr": 0.9}, r"Received: optimizer.lr=0.9. Did you mean learning_rate\?"),
    ("adam", {"shcedule": "cosine"}, r"Received: optimizer.shcedule=cosine. Did you mean schedule"),
    ("adam", {"beta_3": 0.9}, r"Received: optimizer.beta_3=0.9. Did you mean beta_[12]\?"),
    ("adamw", {"clipnrom": 0.9}, r"Received: optimizer.clipnrom=0.9. Did you mean clipnorm\?"),
    ("sgd", {"nesterov": True}, "Pass optimizer.momentum=0.9 too"),
    ("sgd", {"warmup_fraction": 1.0}, r"in \[0, 1\). Received: optimizer.warmup_fraction=1.0"),
    ("sgd", {"warmup_fraction": -0.1}, "For no warm-up pass 0"),
    ("sgd", {"clipnorm": 0.0}, "positive. Received: optimizer.clipnorm=0.0"),
    ("sgd", {"clipvalue": "x"}, "positive. Received: optimizer.clipvalue=x"),
    ("sgd", {"clipnorm": 1.0, "global_clipnorm": 2.0}, "in one way only. Received: optimizer.clip"),
    ("lion", {"clipvalue": 1.0, "clipnorm": 2.0}, "one way only.*clipnorm=2.0, optimizer.cl"),
    ("adamw", {"weight_decay": 0.1}, "regularization=optimizer_weight_decay regularization.lam"),
    ("muon", {"adam_weight_decay": 0.1}, "regularization=optimizer_weight_decay"),
    ("sgd", {"gradient_accumulation_steps": 2}, "Write training.gradient_accumulation_steps"),
    ("sgd", {"schedule": "cosin"}, "Received: optimizer.schedule=cosin. Did you mean cosine"),
    ("sgd", {"schedule": {"final": 0.1}}, "Received: optimizer.schedule=None"),
    ("sgd", {"schedule": {"name": "cosine", "finale": 0.1}}, "schedule.finale=0.1. Did you mean f"),
    ("sgd", {"schedule": {"name": "cosine", "num_step": 3}}, "Did you mean num_steps"),
    ("sgd", {"schedule": {"_target_": "nowhere.f"}}, r"`optimizer.schedule._target_`.*nowhere"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "keys", "message"), BAD)
def test_bad_values_raise(name: str, keys: dict[str, Any], message: str) -> None:
    """A value that no optimizer can follow raises, with what came and the remedy."""
    with pytest.raises(ConfigError, match=message):
        check_optimizer_config(optimizer(name, **keys))


def own(learning_rate: Any, factor: float = 1.0, weight_decay: float | None = None) -> Any:
    """An optimizer of the user's, by a function."""
    return keras.optimizers.Adam(learning_rate, epsilon=factor, weight_decay=weight_decay)


def stubborn(learning_rate: Any) -> Any:
    return keras.optimizers.SGD(learning_rate)


def test_an_optimizer_of_ones_own() -> None:
    config = of_target(OptimizerConfig, f"{__name__}.own", learning_rate=0.25, factor=0.125)
    built = build_optimizer(config, 10, weight_decay=0.5)
    assert (float(built.learning_rate), built.epsilon, built.weight_decay) == (0.25, 0.125, 0.5)
    with pytest.raises(ConfigError, match=r"optimizer\.facter=1. Did you mean factor\?"):
        check_optimizer_config(of_target(OptimizerConfig, config.target, facter=1))


@pytest.mark.parametrize("given", [{"weight_decay": 0.5}, {"gradient_accumulation_steps": 2}])
def test_an_optimizer_that_drops_what_the_run_needs_raises(given: dict[str, Any]) -> None:
    config = of_target(OptimizerConfig, f"{__name__}.stubborn")
    [(key, value)] = given.items()
    with pytest.raises(ConfigError, match=f"with {key}={value}. Received: {key}=None"):
        build_optimizer(config, 10, **given)
