"""Each method of regularization by name: what it does with lambda, and the lambda it means.

Keras is imported inside the functions, so that `check_method` can answer before a backend is.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from l2keras_experiments.config import targets
from l2keras_experiments.config.schema import (
    Config,
    ConfigError,
    RegularizationConfig,
)
from l2keras_experiments.training import scheduling

COUPLINGS = ("decoupled", "coupled", "independent")  # of WeightDecay
METHODS = (*COUPLINGS, "none", "builtin_l2", "half_l2", "optimizer_weight_decay")
_DECAY = "l2keras.callbacks.WeightDecay"
_OURS = ("lam", "coupling", "include", "exclude", "optimizer")  # set by other keys
_SCHEDULE = "regularization.schedule"


@dataclass(frozen=True)
class Method:
    """What a training run needs to regularize with one lambda.

    Attributes:
        effective_lam: lambda in the half convention: the coefficient of W in the gradient.
        regularizer: For the selected variables, or None.
        callbacks: For `fit`.
        optimizer_weight_decay: For the optimizer's own `weight_decay`, or None.
        include, exclude: Patterns of the selected variables; by default kernels and embeddings.
        replaces: Whether regularizers that the model brings are taken off.
    """

    effective_lam: float
    regularizer: Any = None
    callbacks: tuple[Any, ...] = ()
    optimizer_weight_decay: float | None = None
    include: Any = None
    exclude: Any = None
    replaces: bool = True

    def selected(self, model: Any) -> list[Any]:
        """The variables of `model` that are decayed, or would be."""
        from l2keras import masks

        found: list[Any] = masks.select(model, self.include, self.exclude)
        return found

    def attach(self, model: Any) -> None:
        """Puts the regularizer on a model just built, and takes off or keeps those it has."""
        import l2keras

        if self.replaces:
            _take_off(model)
        if self.regularizer is not None:
            own = {id(v) for v in model.trainable_variables if v.regularizer is not None}
            wanted = {id(v) for v in self.selected(model)} - own
            if wanted:
                with warnings.catch_warnings():
                    # The config of a subclassed model has no place for it; a run needs none.
                    warnings.filterwarnings("ignore", message="The penalty counts now, but is lost")
                    l2keras.attach(model, self.regularizer, include=lambda v: id(v) in wanted)


def _take_off(model: Any) -> None:
    """Removes the regularizers of variables, so that nothing of them is saved either."""
    import keras

    for layer in model._flatten_layers():
        for name, value in list(vars(layer).items()):
            weights = name.endswith("_regularizer") and name != "activity_regularizer"
            if weights and isinstance(value, keras.regularizers.Regularizer):
                setattr(layer, name, None)
    for variable in model.variables:
        variable.regularizer = None


def check_method(config: RegularizationConfig) -> None:
    """Raises ConfigError for a name that is not in `METHODS`, and what it cannot do."""
    if config.name not in METHODS:
        raise ConfigError(
            f"`regularization.name` must be one of {sorted(METHODS)}. Received: {config.name!r}."
        )
    if config.own_l2 not in ("replace", "keep"):
        raise ConfigError(
            "`regularization.own_l2` must be replace or keep. "
            f"Received: regularization.own_l2={config.own_l2}."
        )
    for key in ("include", "exclude"):
        _check_patterns(key, getattr(config, key))
    if config.decay_all and config.include is not None:
        raise ConfigError(
            "`regularization.decay_all` needs the default selection. Received: "
            f"regularization.decay_all=true with regularization.include={config.include}. "
            "Leave one of them out."
        )
    if config.scale is not None:
        _check_scale(config.scale)
    scheduling.check(_SCHEDULE, config.schedule)
    if config.name in COUPLINGS:
        node = {targets.TARGET: _DECAY, **config.arguments}
        targets.check("regularization", node, _OURS)
        _check_not_ours(config)
    else:
        _check_without_coupling(config)


def _check_without_coupling(config: RegularizationConfig) -> None:
    """Raises ConfigError for what only the forms of WeightDecay take."""
    for key, value in config.arguments.items():
        if key not in targets.accepted(_DECAY):
            raise targets.unknown_argument(
                "regularization", f"regularization={config.name}", key, value, ()
            )
    extra = [*config.arguments]
    extra += ["scale"] if config.scale is not None else []
    extra += ["schedule"] if config.schedule != "constant" else []
    if extra:
        keys = ", ".join(f"regularization.{key}" for key in extra)
        raise ConfigError(
            f"Forms of WeightDecay need one of its couplings. Received: {keys} with "
            f"regularization={config.name}. Choose {', '.join(COUPLINGS)}."
        )


def _check_not_ours(config: RegularizationConfig) -> None:
    for key in set(_OURS) & config.arguments.keys():
        raise ConfigError(
            f"`regularization` must have keys of its own. Received: regularization.{key}="
            f"{config.arguments[key]}. Choose the coupling by regularization=NAME."
        )


def _check_patterns(key: str, value: Any) -> None:
    listed = [value] if isinstance(value, str) else value
    if listed is not None and not (
        isinstance(listed, list) and listed and all(isinstance(one, str) for one in listed)
    ):
        raise ConfigError(
            f"`regularization.{key}` must be a pattern of variable paths, a list of them, or null. "
            f"Received: regularization.{key}={value}. Write {key}='*/kernel'."
        )


def _check_scale(scale: Any) -> None:
    valid = isinstance(scale, Mapping) and scale and all(
        isinstance(factor, int | float) and not isinstance(factor, bool) and factor >= 0
        for factor in scale.values()
    )  # fmt: skip
    if not valid:
        raise ConfigError(
            "`regularization.scale` must map patterns of variable paths to factors of lambda. "
            f"Received: regularization.scale={scale}. Write it in a config file: "
            "scale: {'*/head/kernel': 0.1, '*': 1}."
        )


def build_method(config: Config, num_steps: int = 1) -> Method:
    """The method at its lambda, as a user would paste it.

    Args:
        config: Its `regularization.lam` is the coefficient as written: `builtin_l2` hands it to
            `keras.regularizers.L2`.
        num_steps: Batches in the whole run, for a schedule of lambda.
    """
    chosen, rate = config.regularization, config.optimizer.learning_rate
    about: dict[str, Any] = {
        "include": "*" if chosen.decay_all else chosen.include,
        "exclude": chosen.exclude,
        "replaces": chosen.own_l2 == "replace",
    }
    if chosen.name in COUPLINGS:
        updates = num_steps // config.training.gradient_accumulation_steps
        lam = chosen.lam / rate if chosen.name == "independent" else chosen.lam
        return Method(lam, callbacks=(_decay(chosen, rate, max(1, updates)),), **about)
    if chosen.name == "none":
        return Method(0.0, **about)
    if chosen.name == "optimizer_weight_decay":
        return Method(chosen.lam, optimizer_weight_decay=chosen.lam, **about)
    if chosen.name == "builtin_l2":
        import keras

        return Method(2 * chosen.lam, regularizer=keras.regularizers.L2(chosen.lam), **about)
    import l2keras

    return Method(chosen.lam, regularizer=l2keras.HalfL2(chosen.lam), **about)


def _decay(config: RegularizationConfig, peak_learning_rate: float, updates: int) -> Any:
    """A WeightDecay; lambda on a schedule and scaled by pattern, where that is asked."""
    import l2keras

    def scheduled(lam: float) -> Any:
        return scheduling.make(_SCHEDULE, config.schedule, lam, updates)

    arguments = dict(config.arguments)
    if config.name == "independent":
        arguments.setdefault("peak_learning_rate", peak_learning_rate)
    scale = config.scale
    return l2keras.WeightDecay(
        scheduled(config.lam) if scale is None
        else {pattern: scheduled(config.lam * factor) for pattern, factor in scale.items()},
        coupling=config.name,
        include="*" if config.decay_all else config.include,
        exclude=config.exclude,
        **arguments,
    )  # fmt: skip


def is_plain(config: RegularizationConfig) -> bool:
    """Whether it is a lambda on the default variables, or on all, and nothing else."""
    plain = RegularizationConfig(name=config.name, lam=config.lam, decay_all=config.decay_all)
    return config == plain
