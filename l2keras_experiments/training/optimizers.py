"""The optimizer of a run and its learning-rate schedule, from targets and their arguments.

Keras is imported inside the functions, so that `check_optimizer_config` can answer before a
backend is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from omegaconf import OmegaConf

from l2keras_experiments.config import targets
from l2keras_experiments.config.paths import CONFIGS
from l2keras_experiments.config.schema import ConfigError, OptimizerConfig
from l2keras_experiments.training import scheduling

_SCHEDULE = "optimizer.schedule"
_CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")
_DECAYS = ("weight_decay", "adam_weight_decay")  # the second is Muon's, of what Adam updates
_OURS = (*_DECAYS, "gradient_accumulation_steps", "learning_rate")  # set by other keys
_WITHOUT_DECAY = ("ftrl", "schedulefreeadamw")  # their steps overwrite what decays W itself
_BASE = "keras.src.optimizers.base_optimizer.BaseOptimizer"  # what all of Keras' take


def check_optimizer_config(config: OptimizerConfig) -> None:
    """Raises ConfigError, a ValueError, for what no optimizer could follow."""
    arguments = config.arguments
    decay = "regularization=optimizer_weight_decay regularization.lam=..."
    for key, instead in (
        *((key, decay) for key in _DECAYS),
        ("gradient_accumulation_steps", "training.gradient_accumulation_steps=..."),
    ):
        if arguments.get(key):
            raise ConfigError(
                f"`optimizer.{key}` must be left to another key. "
                f"Received: optimizer.{key}={arguments[key]}. Write {instead}"
            )
    targets.check("optimizer", config.node, _OURS)
    _check_keras_arguments(config)
    scheduling.check(_SCHEDULE, config.schedule)
    if not 0.0 <= config.warmup_fraction < 1.0:
        raise ConfigError(
            "`optimizer.warmup_fraction` must be in [0, 1). Received: "
            f"optimizer.warmup_fraction={config.warmup_fraction}. For no warm-up pass 0."
        )
    _check_clipping(arguments)
    _check_momentum(config)


def check_own_decay(config: OptimizerConfig, method: str = "optimizer_weight_decay") -> None:
    """Raises ConfigError for an optimizer whose step overwrites what a method decays."""
    if config.target.startswith("keras.") and config.name in _WITHOUT_DECAY:
        raise ConfigError(
            f"regularization={method} needs an optimizer that steps from W. "
            f"Received: {config.target}, whose step overwrites the decay. "
            "Choose regularization=coupled or half_l2, or another optimizer."
        )


def _check_keras_arguments(config: OptimizerConfig) -> None:
    """Raises ConfigError for what neither an optimizer of Keras nor the base of all takes."""
    if not config.target.startswith("keras.optimizers."):
        return
    try:
        base = targets.accepted(_BASE)
    except ConfigError:  # this Keras keeps it elsewhere, and will raise itself
        return
    valid = sorted({*targets.accepted(config.target), *base} - set(_OURS))
    for name, value in config.arguments.items():
        if name not in valid and name not in _OURS:
            _check_left_over(config, name, value)
            raise targets.unknown_argument("optimizer", config.target, name, value, valid)


def _check_left_over(config: OptimizerConfig, name: str, value: Any) -> None:
    """Raises ConfigError for an argument of an option whose target another one replaced."""
    files = sorted((CONFIGS / "optimizer").glob("*.yaml"))
    options: dict[str, Any] = {
        path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in files
    }
    from_options = [key for key, option in options.items() if option.get(name) == value]
    own = [key for key, option in options.items() if option.get(targets.TARGET) == config.target]
    if from_options and own:
        raise ConfigError(
            f"`optimizer` must have keys that {config.target} takes. Received: "
            f"optimizer.{name}={value}, an argument of optimizer={from_options[0]}. "
            f"Leave it out, or choose optimizer={own[0]} for the target."
        )


def _check_clipping(arguments: Mapping[str, Any]) -> None:
    clips = {key: arguments[key] for key in _CLIPS if arguments.get(key) is not None}
    for key, value in clips.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError(
                f"`optimizer.{key}` must be positive. "
                f"Received: optimizer.{key}={value}. For no clipping pass null."
            )
    if len(clips) > 1:
        names = ", ".join(f"optimizer.{key}={value}" for key, value in clips.items())
        raise ConfigError(
            f"Gradients can be clipped in one way only. Received: {names}. Set one to null."
        )


def _check_momentum(config: OptimizerConfig) -> None:
    momentum = config.arguments.get("momentum", 0.0)
    if isinstance(momentum, int | float) and not 0.0 <= momentum < 1.0:
        raise ConfigError(
            "`optimizer.momentum` must be in [0, 1). "
            f"Received: optimizer.momentum={momentum}. For none pass 0."
        )
    if config.name == "sgd" and config.arguments.get("nesterov") and not momentum:
        raise ConfigError(
            "`optimizer.nesterov` needs momentum. Received: optimizer.nesterov=true with "
            "optimizer.momentum=0. Pass optimizer.momentum=0.9 too."
        )


def build_optimizer(
    config: OptimizerConfig,
    num_steps: int,
    *,
    weight_decay: float | None = None,
    gradient_accumulation_steps: int = 1,
    model: Any = None,
    decayed: Collection[Any] | None = None,
) -> Any:
    """The optimizer that `config` names.

    Its own weight decay is off unless `weight_decay` is given: AdamW and Muon have a default that
    would add to that of another method.

    Args:
        config: Target and arguments, learning rate and its schedule.
        num_steps: Batches in the whole run. Keras reads schedules at the count of batches, also
            under gradient accumulation.
        weight_decay: The optimizer's own, decoupled: W <- (1 - learning_rate*weight_decay)*W.
        gradient_accumulation_steps: Batches averaged into one update.
        model: Built; keeps `weight_decay` to `decayed`. Without it Keras decays all of them,
            biases too, unless `apply_weight_decay_mask` follows.
        decayed: Variables of `model`; by default those that l2keras decays.

    Raises:
        ConfigError: a value of `config` that no optimizer could follow.
        TargetError: the optimizer or the schedule raised.
    """
    check_optimizer_config(config)
    supplied: dict[str, Any] = {"learning_rate": build_schedule(config, num_steps)}
    accepted = targets.accepted(config.target)
    if weight_decay is not None:
        check_own_decay(config)
        supplied["weight_decay"] = weight_decay
    on = [key for key in _DECAYS if key in accepted and accepted[key].default != "None"]
    supplied |= dict.fromkeys(on, weight_decay or 0.0)
    if gradient_accumulation_steps > 1:
        supplied["gradient_accumulation_steps"] = gradient_accumulation_steps
    optimizer = targets.instantiate("optimizer", config.node, through_kwargs=True, **supplied)
    _check_taken(optimizer, config.target, supplied)
    if weight_decay is not None and model is not None:
        apply_weight_decay_mask(optimizer, model, decayed)
    return optimizer


def _check_taken(optimizer: Any, target: str, supplied: Mapping[str, Any]) -> None:
    """Raises ConfigError where an optimizer of the user's does not take what a run needs."""
    for key in ("weight_decay", "gradient_accumulation_steps"):
        found = getattr(optimizer, key, None)
        if key in supplied and found != supplied[key]:
            raise ConfigError(
                f"{target} must return an optimizer with {key}={supplied[key]}. "
                f"Received: {key}={found}. Take an argument {key} and pass it on."
            )


def build_schedule(config: OptimizerConfig, num_steps: int) -> Any:
    """A float, or a Keras schedule: linear from zero to the peak, then what `schedule` says.

    With s the step, w = warmup_fraction * num_steps rounded, eta = learning_rate:

        s < w     eta * s / w
        s >= w    the schedule of num_steps - w steps, at s - w
    """
    rate = float(config.learning_rate)
    warmup_steps = min(round(config.warmup_fraction * num_steps), num_steps - 1)
    steps = num_steps - warmup_steps
    schedule = scheduling.make(_SCHEDULE, config.schedule, rate, steps)
    if not warmup_steps:
        return schedule
    from keras.optimizers.schedules import CosineDecay

    from l2keras_experiments.training.schedules import Warmup

    lowest = {"constant": 1.0, "cosine": 0.0}.get(str(config.schedule))
    if lowest is not None:  # Keras has these with a warm-up
        return CosineDecay(0.0, steps, alpha=lowest, warmup_target=rate, warmup_steps=warmup_steps)
    return Warmup(schedule, rate, warmup_steps)


def apply_weight_decay_mask(
    optimizer: Any, model: Any, decayed: Collection[Any] | None = None
) -> None:
    """Keeps the optimizer's own weight decay to some variables.

    Excludes the variables themselves, since Keras matches names that differ between backends.
    Works on the optimizer that `compile` wraps for mixed precision too.

    Args:
        optimizer: With `weight_decay`, before `fit`: a step that is compiled ignores the mask.
        model: Built; its variables are the ones that the optimizer will update.
        decayed: Which of them decay; by default those that l2keras decays.

    Raises:
        RuntimeError: a train step of the model exists already.
    """
    from l2keras import masks

    if getattr(model, "train_function", None) is not None:
        raise RuntimeError(
            "The mask of weight decay must be set before the train step is compiled. "
            "Received: a model that has been fitted. Compile it again first."
        )
    kept = {id(variable) for variable in (masks.select(model) if decayed is None else decayed)}
    excluded = [v for v in model.trainable_variables if id(v) not in kept]
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner.exclude_from_weight_decay(var_list=excluded)
