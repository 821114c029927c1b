"""Each method of regularization by name: what it does with lambda, and the lambda it means.

Keras is imported inside the functions, so that `check_method` can answer before a backend is.
"""

from __future__ import annotations

import glob
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from l2keras_experiments.config import schema, targets
from l2keras_experiments.config.schema import (
    Config,
    ConfigError,
    OptimizerConfig,
    RegularizationConfig,
)
from l2keras_experiments.training import scheduling
from l2keras_experiments.training.optimizers import check_own_decay

COUPLINGS = ("decoupled", "coupled", "independent")  # of WeightDecay
METHODS = (*COUPLINGS, "none", "builtin_l2", "half_l2", "optimizer_weight_decay")
_KEY = "regularization"
_DECAY = "l2keras.callbacks.WeightDecay"
_OURS = ("lam", "coupling", "optimizer")  # set by other keys
# What WeightDecay takes together. Its constructor checks the same, but needs Keras.
_COUPLINGS_OF = {
    "corrected": ("decoupled",),
    "stable": ("decoupled",),
    "cautious": ("decoupled", "independent"),
    "lazy": ("decoupled", "independent"),
}
_EXCLUSIVE = (
    ("corrected", "stable"),
    ("lazy", "cautious"),
    ("lazy", "stable"),
    ("lazy", "toward"),
    ("lazy", "fused"),
)
_OPTIMIZERS_OF = {  # of Keras
    "stable": ("adam", "adamw", "nadam", "lamb"),
    "lazy": ("sgd", "adagrad", "rmsprop", "adadelta"),
}
_WITH_GROUPS = (*COUPLINGS, "builtin_l2", "half_l2")


@dataclass(frozen=True)
class Method:
    """What a training run needs to regularize with one lambda.

    Attributes:
        effective_lam: lambda in the half convention: the coefficient of W in the gradient.
        regularizer: For the selected variables, or None.
        callbacks: For `fit`.
        optimizer_weight_decay: For the optimizer's own `weight_decay`, or None.
        include, exclude: Patterns of the selected variables; by default kernels and embeddings.
            Those of groups are in their callbacks.
        replaces: Whether the regularizers of a model are removed. Otherwise their variables keep
            them, and lambda acts on the others only.
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
        chosen = {id(variable) for variable in self._selected_by(self, model)}
        for decay in self.callbacks:
            chosen |= {id(variable) for variable in self._selected_by(decay, model)}
        return [variable for variable in model.trainable_variables if id(variable) in chosen]

    def _selected_by(self, patterns: Any, model: Any) -> list[Any]:
        """The variables that the patterns of a group select, without those with their own L2."""
        from l2keras import masks

        return [
            variable
            for variable in masks.select(model, patterns.include, patterns.exclude)
            if self.replaces or variable.regularizer in (None, self.regularizer)
        ]

    def attach(self, model: Any) -> None:
        """Puts the regularizer on a model just built, and removes or keeps those it has.

        Raises:
            ConfigError: every variable keeps its own, so that none is left for lambda.
        """
        import l2keras

        if self.replaces:
            _take_off(model)
        own = [v.path for v in model.trainable_variables if v.regularizer is not None]
        if own and self._acts and not self.selected(model):
            raise ConfigError(
                f"`{_KEY}.own_l2=keep` must leave a variable for lambda. Received: a model whose "
                f"selected variables all have a regularizer of their own: {', '.join(own)}. "
                f"Choose {_KEY}.own_l2=replace, or select more by {_KEY}.include."
            )
        for decay in self.callbacks if own else ():
            patterns = [decay.exclude] if isinstance(decay.exclude, str) else decay.exclude or []
            decay.exclude = [*patterns, *map(glob.escape, own)]
        if self.regularizer is not None:
            chosen = {id(variable) for variable in self._selected_by(self, model)}
            if chosen:
                with warnings.catch_warnings():
                    # The config of a subclassed model has no place for it; a run needs none.
                    warnings.filterwarnings("ignore", message="The penalty counts now, but is lost")
                    l2keras.attach(model, self.regularizer, include=lambda v: id(v) in chosen)

    @property
    def _acts(self) -> bool:
        weight_decay = self.optimizer_weight_decay
        return bool(self.callbacks) or self.regularizer is not None or weight_decay is not None


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
            f"`{_KEY}.name` must be one of {sorted(METHODS)}. Received: {config.name!r}. "
            "Choose one of them."
        )
    if config.own_l2 not in ("replace", "keep"):
        raise ConfigError(
            f"`{_KEY}.own_l2` must be replace or keep. Received: {_KEY}.own_l2={config.own_l2}. "
            "Choose one of them."
        )
    _check_groups(config)
    for key, form in _forms(config):
        _check_form(key, form)


def check_with_optimizer(config: RegularizationConfig, optimizer: OptimizerConfig) -> None:
    """Raises ConfigError for a form of decay that an optimizer of Keras cannot take."""
    for key, form in _forms(config):
        if form.name in ("decoupled", "independent", "optimizer_weight_decay"):
            check_own_decay(optimizer, form.name)
        for name, kinds in _OPTIMIZERS_OF.items():
            is_keras = optimizer.target.startswith("keras.optimizers.")
            if form.arguments.get(name) and is_keras and optimizer.name not in kinds:
                raise ConfigError(
                    f"`{key}.{name}` needs one of the optimizers {', '.join(kinds)}. "
                    f"Received: {optimizer.target}. Choose one, or leave out {key}.{name}."
                )


def _forms(config: RegularizationConfig) -> Iterator[tuple[str, RegularizationConfig]]:
    """The method itself and each group, a WeightDecay of its own, with its key.

    A group has the coupling, the lambda and the schedule of the method where it names no other.
    """
    yield _KEY, config
    own = schema.own_keys(_KEY)
    for number, group in enumerate(config.groups or ()):
        given = {"name": config.name, "lam": config.lam, "schedule": config.schedule}
        given |= {key: value for key, value in group.items() if key in own}
        if _is_number(given.get("scale")):
            given["lam"] *= given.pop("scale")
        arguments = {key: value for key, value in group.items() if key not in own}
        yield f"{_KEY}.groups.{number}", RegularizationConfig(**given, arguments=arguments)


def _check_groups(config: RegularizationConfig) -> None:
    """Raises ConfigError unless `groups` is a list of mappings, each a WeightDecay."""
    groups = config.groups
    if groups is None:
        return
    if not (isinstance(groups, list) and all(isinstance(group, Mapping) for group in groups)):
        raise ConfigError(
            f"`{_KEY}.groups` must be a list of mappings. Received: {_KEY}.groups={groups}. "
            "Write groups: [{include: '*embeddings', scale: 0.1, lazy: true}]."
        )
    if config.name not in _WITH_GROUPS:
        raise ConfigError(
            f"`{_KEY}.groups` needs one of {', '.join(_WITH_GROUPS)}. "
            f"Received: {_KEY}={config.name}. Choose the method of most variables."
        )
    for number, group in enumerate(groups):
        key = f"{_KEY}.groups.{number}"
        name, lam = group.get("name", config.name), group.get("lam", 0.0)
        if name not in COUPLINGS:
            raise ConfigError(
                f"`{key}.name` must be one of {', '.join(COUPLINGS)}. Received: {name}. "
                "Each group is a WeightDecay."
            )
        if not _is_number(lam) or not 0 <= lam <= schema.LARGEST_FLOAT:
            raise ConfigError(
                f"`{key}.lam` must be a number >= 0, finite in float32. Received: {key}.lam={lam}. "
                "For no decay write 0."
            )
        for shared in {"own_l2", "groups"} & group.keys():
            raise ConfigError(
                f"`{_KEY}.{shared}` holds for all groups. Received: {key}.{shared}. "
                f"Set {_KEY}.{shared}."
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_form(key: str, config: RegularizationConfig) -> None:
    """Raises ConfigError for what neither a method nor a group takes."""
    for name in ("include", "exclude"):
        _check_patterns(f"{key}.{name}", getattr(config, name))
    if config.decay_all and config.include is not None:
        raise ConfigError(
            f"`{key}.decay_all` needs the default selection. Received: {key}.decay_all=true with "
            f"{key}.include={config.include}. Leave one of them out."
        )
    if config.scale is not None:
        _check_scale(f"{key}.scale", config.scale)
    scheduling.check(f"{key}.schedule", config.schedule)
    if config.name not in COUPLINGS:
        _check_without_coupling(config)
        return
    targets.check(key, {targets.TARGET: _DECAY, **config.arguments}, _OURS)
    for name in set(_OURS) & config.arguments.keys():
        raise ConfigError(
            f"`{key}` must have keys of its own. Received: {key}.{name}={config.arguments[name]}. "
            f"Choose the coupling by {_KEY}=NAME."
        )
    _check_combination(key, config)
    _check_values(key, config)


def _check_without_coupling(config: RegularizationConfig) -> None:
    """Raises ConfigError for what only the forms of WeightDecay take."""
    for key, value in config.arguments.items():
        if key not in targets.accepted(_DECAY):
            raise targets.unknown_argument(_KEY, f"{_KEY}={config.name}", key, value, ())
    extra = [*config.arguments]
    extra += ["scale"] if config.scale is not None else []
    extra += ["schedule"] if config.schedule != "constant" else []
    if extra:
        keys = ", ".join(f"{_KEY}.{key}" for key in extra)
        raise ConfigError(
            f"Forms of WeightDecay need one of its couplings. Received: {keys} with "
            f"{_KEY}={config.name}. Choose {', '.join(COUPLINGS)}."
        )


def _check_combination(key: str, config: RegularizationConfig) -> None:
    """Raises ConfigError for forms that do not go with the coupling, or with each other."""
    given = config.arguments
    for name, couplings in _COUPLINGS_OF.items():
        if given.get(name) and config.name not in couplings:
            raise ConfigError(
                f"`{key}.{name}` needs the coupling {' or '.join(couplings)}. "
                f"Received: {key}.{name}={given[name]} with {config.name}. Change one of them."
            )
    for pair in _EXCLUSIVE:
        if all(given.get(name) for name in pair):
            received = ", ".join(f"{key}.{name}={given[name]}" for name in pair)
            raise ConfigError(
                f"`{pair[0]}` and `{pair[1]}` exclude each other. Received: {received}. "
                "Leave out one of them."
            )
    peak = given.get("peak_learning_rate")
    if peak is not None and config.name != "independent" and not given.get("corrected"):
        raise ConfigError(
            f"`{key}.peak_learning_rate` belongs to the coupling independent and to corrected. "
            f"Received: {key}.peak_learning_rate={peak} with {config.name}. Leave it out."
        )


def _check_values(key: str, config: RegularizationConfig) -> None:
    """Raises ConfigError for a rate that is not positive, and a checkpoint that is not there."""
    for name in ("layer_decay", "peak_learning_rate"):
        value = config.arguments.get(name)
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(
                f"`{key}.{name}` must be positive and finite. Received: {key}.{name}={value}. "
                "Leave it out for the default."
            )
    toward = config.arguments.get("toward")
    is_checkpoint = str(toward).endswith((".keras", ".weights.h5")) and Path(str(toward)).is_file()
    if toward not in (None, "init") and not is_checkpoint:
        raise ConfigError(
            f"`{key}.toward` must be init, or a .keras or .weights.h5 file that exists. "
            f"Received: {key}.toward={toward}. Save one by model.save_weights."
        )


def _check_patterns(key: str, value: Any) -> None:
    listed = [value] if isinstance(value, str) else value
    if listed is not None and not (
        isinstance(listed, list) and listed and all(isinstance(one, str) for one in listed)
    ):
        raise ConfigError(
            f"`{key}` must be a pattern of variable paths, a list of them, or null. "
            f"Received: {key}={value}. Write {key.rpartition('.')[2]}='*kernel'."
        )


def _check_scale(key: str, scale: Any) -> None:
    valid = isinstance(scale, Mapping) and scale and all(
        _is_number(factor) and factor >= 0 for factor in scale.values()
    )  # fmt: skip
    if not valid:
        raise ConfigError(
            f"`{key}` must map patterns of variable paths to factors of lambda. "
            f"Received: {key}={scale}. Write it in a config file: "
            "scale: {'*head/kernel': 0.1, '*': 1}."
        )


@contextmanager
def mistakes_named() -> Iterator[None]:
    """Turns what l2keras raises about a model or its arguments into a ConfigError with the keys.

    Only the model shows them: patterns that match nothing, groups that overlap, an optimizer of
    the user's own that a form cannot take.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
        if not module.startswith("l2keras."):
            raise
        text = _with_keys(str(error))
        raise ConfigError(text if _KEY in text else f"`{_KEY}`: {text}") from error


def _with_keys(text: str) -> str:
    """A message of l2keras with the keys of the config in the place of its arguments."""
    keys = {name: f"{_KEY}.{name}" for name in targets.accepted(_DECAY) if name not in _OURS}
    keys["lam"] = f"{_KEY}.scale"  # a mapping there
    return re.sub(r"`(\w+)\b", lambda match: f"`{keys.get(match[1], match[1])}", text)


def build_method(config: Config, num_steps: int = 1) -> Method:
    """The method at its lambda, as a user would paste it.

    Args:
        config: Its `regularization.lam` is the coefficient as written: `builtin_l2` hands it to
            `keras.regularizers.L2`.
        num_steps: Batches in the whole run, for a schedule of lambda.
    """
    chosen, rate = config.regularization, config.optimizer.learning_rate
    updates = num_steps // config.training.gradient_accumulation_steps
    about: dict[str, Any] = {
        "include": "*" if chosen.decay_all else chosen.include,
        "exclude": chosen.exclude,
        "replaces": chosen.own_l2 == "replace",
        "callbacks": tuple(
            _decay(form, rate, max(1, updates))
            for _, form in _forms(chosen)
            if form.name in COUPLINGS
        ),
    }
    if chosen.name in COUPLINGS:
        lam = chosen.lam / rate if chosen.name == "independent" else chosen.lam
        return Method(lam, **about)
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
        return scheduling.make(f"{_KEY}.schedule", config.schedule, lam, updates)

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


def beside_lambda(config: RegularizationConfig) -> list[str]:
    """The keys that make it more than a lambda on the default variables, or on all."""
    plain = RegularizationConfig(name=config.name, lam=config.lam, decay_all=config.decay_all)
    names = [item.name for item in fields(config) if item.name != "arguments"]
    changed = [name for name in names if getattr(config, name) != getattr(plain, name)]
    return [*changed, *config.arguments]
