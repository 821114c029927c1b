"""Optimizers and learning-rate schedules by name. Keras is imported inside the functions, so
that `check_optimizer_config` can answer before a backend is.
"""

from __future__ import annotations

from typing import Any

from experiments.schema import ConfigError, OptimizerConfig, Schedule

NAMES = ("adam", "sgd")


def check_optimizer_config(config: OptimizerConfig) -> None:
    """Raises ConfigError, a ValueError, for what no optimizer could follow."""
    if config.name not in NAMES:
        raise ConfigError(
            f"`optimizer.name` must be one of {list(NAMES)}. Received: {config.name!r}. "
            "Momentum is sgd with optimizer.momentum."
        )
    if not 0.0 <= config.warmup_fraction < 1.0:
        raise ConfigError(
            "`optimizer.warmup_fraction` must be in [0, 1). Received: "
            f"optimizer.warmup_fraction={config.warmup_fraction}. For no warm-up pass 0."
        )
    _check_momentum(config)
    _check_clipping(config)


def _check_momentum(config: OptimizerConfig) -> None:
    if not 0.0 <= config.momentum < 1.0:
        raise ConfigError(
            "`optimizer.momentum` must be in [0, 1). "
            f"Received: optimizer.momentum={config.momentum}. For none pass 0."
        )
    if config.name != "sgd" and (config.momentum or config.nesterov):
        raise ConfigError(
            "`optimizer.momentum` and `optimizer.nesterov` belong to sgd. Received: "
            f"optimizer.momentum={config.momentum}, optimizer.nesterov={config.nesterov} with "
            f"optimizer.name={config.name}. Leave them out, or pass optimizer=momentum."
        )
    if config.nesterov and not config.momentum:
        raise ConfigError(
            "`optimizer.nesterov` needs momentum. Received: optimizer.nesterov=true with "
            "optimizer.momentum=0. Pass optimizer.momentum=0.9 too."
        )


def _check_clipping(config: OptimizerConfig) -> None:
    clips = {"clipnorm": config.clipnorm, "global_clipnorm": config.global_clipnorm}
    for key, value in clips.items():
        if value is not None and not value > 0:
            raise ConfigError(
                f"`optimizer.{key}` must be positive. "
                f"Received: optimizer.{key}={value}. For no clipping pass null."
            )
    if None not in clips.values():
        raise ConfigError(
            "Only one of `optimizer.clipnorm` and `optimizer.global_clipnorm` can be set. "
            f"Received: {config.clipnorm} and {config.global_clipnorm}. Set one to null."
        )


def build_optimizer(
    config: OptimizerConfig,
    num_steps: int,
    *,
    weight_decay: float | None = None,
    gradient_accumulation_steps: int = 1,
    model: Any = None,
) -> Any:
    """The optimizer that `config` names.

    Args:
        config: Name, learning rate and its schedule, momentum, clipping.
        num_steps: Batches in the whole run. Keras reads schedules at the count of batches, also
            under gradient accumulation.
        weight_decay: The optimizer's own, decoupled: W <- (1 - learning_rate*weight_decay)*W.
        gradient_accumulation_steps: Batches averaged into one update.
        model: Built; keeps `weight_decay` to the variables that l2keras decays. Without it Keras
            decays all of them, biases too, unless `apply_weight_decay_mask` follows.

    Raises:
        ConfigError: a value of `config` that no optimizer could follow.
    """
    import keras

    check_optimizer_config(config)
    arguments: dict[str, Any] = {
        "learning_rate": build_schedule(config, num_steps),
        "weight_decay": weight_decay,
        "clipnorm": config.clipnorm,
        "global_clipnorm": config.global_clipnorm,
    }
    if gradient_accumulation_steps > 1:
        arguments["gradient_accumulation_steps"] = gradient_accumulation_steps
    if config.name == "adam":
        optimizer = keras.optimizers.Adam(**arguments)
    else:
        arguments.update(momentum=config.momentum, nesterov=config.nesterov)
        optimizer = keras.optimizers.SGD(**arguments)
    if weight_decay is not None and model is not None:
        apply_weight_decay_mask(optimizer, model)
    return optimizer


def build_schedule(config: OptimizerConfig, num_steps: int) -> Any:
    """A float, or a Keras schedule: linear from zero to the peak, then constant or cosine to zero.

    With s the step, w = warmup_fraction * num_steps rounded, eta = learning_rate:

        s < w     eta * s / w
        s >= w    eta, or eta * (1 + cos(pi * (s - w) / (num_steps - w))) / 2
    """
    from keras.optimizers.schedules import CosineDecay

    rate = float(config.learning_rate)
    warmup_steps = min(round(config.warmup_fraction * num_steps), num_steps - 1)
    lowest = 1.0 if config.schedule is Schedule.constant else 0.0  # as a fraction of the peak
    if warmup_steps:
        return CosineDecay(
            0.0,
            num_steps - warmup_steps,
            alpha=lowest,
            warmup_target=rate,
            warmup_steps=warmup_steps,
        )
    return rate if lowest == 1.0 else CosineDecay(rate, num_steps)


def apply_weight_decay_mask(optimizer: Any, model: Any) -> None:
    """Keeps the optimizer's own weight decay to the variables that l2keras decays.

    Excludes the variables themselves, since Keras matches names that differ between backends.
    Works on the optimizer that `compile` wraps for mixed precision too.

    Args:
        optimizer: With `weight_decay`, before `fit`: a step that is compiled ignores the mask.
        model: Built; its variables are the ones that the optimizer will update.

    Raises:
        RuntimeError: a train step of the model exists already.
    """
    from l2keras import masks

    if getattr(model, "train_function", None) is not None:
        raise RuntimeError(
            "The mask of weight decay must be set before the train step is compiled. "
            "Received: a model that has been fitted. Compile it again first."
        )
    decayed = {id(variable) for variable in masks.select(model)}
    excluded = [v for v in model.trainable_variables if id(v) not in decayed]
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner.exclude_from_weight_decay(var_list=excluded)
