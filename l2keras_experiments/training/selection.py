"""Which metric ranks runs and which one stops them early, and whether it is to grow.

Keras is imported inside the functions, so that `check_stopping` and `check_monitored_names` can
answer before a backend is.
"""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable
from typing import Any

from l2keras_experiments.config.schema import ConfigError, TrainingConfig
from l2keras_experiments.training.objectives import metrics_of

_ACCURACY = ("accuracy", "acc")  # which Keras chooses by the shapes
# Measured beside the metrics of Keras, without examples.
_RECORDED = ("weight_norm", "penalty", "learning_rate", "decay_per_step", "weight_decay")
# The words of metrics that are to fall, where they do not say so.
_COSTS = ("loss", "error")


def check_stopping(config: TrainingConfig) -> None:
    """Raises ConfigError for a selection or a stopping rule that cannot be."""
    stopping = config.early_stopping
    if stopping.patience is not None and stopping.patience < 1:
        raise ConfigError(
            "`training.early_stopping.patience` must be at least 1. Received: "
            f"training.early_stopping.patience={stopping.patience}. For no early stop pass null."
        )
    for key, mode in (
        ("training.early_stopping.mode", stopping.mode),
        ("training.selection_mode", config.selection_mode),
    ):
        if mode not in ("auto", "min", "max"):
            raise ConfigError(
                f"`{key}` must be auto, min or max. Received: {key}={mode}. Choose one of them."
            )
    if config.selection is not None and not config.selection.startswith("val_"):
        raise ConfigError(
            "`training.selection` must be a metric of the validation examples. Received: "
            f"training.selection={config.selection}. Did you mean val_{config.selection}?"
        )
    if stopping.patience is not None and config.validation_freq > 1:
        raise ConfigError(
            "Early stopping needs a validation after each epoch. Received: "
            f"training.validation_freq={config.validation_freq} with "
            f"training.early_stopping.patience={stopping.patience}. Leave one of them out."
        )


def monitor_of(config: TrainingConfig) -> str:
    """The metric that early stopping watches."""
    return config.early_stopping.monitor or config.selection or "val_data_loss"


def selection_of(config: TrainingConfig, measured: Container[str]) -> tuple[str, bool]:
    """The metric that ranks runs, of those `measured`, and whether it is to grow."""
    if config.selection is not None:
        return config.selection, higher_is_better(config, config.selection)
    return ("val_accuracy", True) if "val_accuracy" in measured else ("val_data_loss", False)


def higher_is_better(config: TrainingConfig, monitor: str) -> bool:
    """Whether a metric is to grow: as its mode in the config says, else as the metric does.

    Raises:
        ConfigError: neither says.
    """
    modes = {
        "training.selection_mode": (config.selection, config.selection_mode),
        "training.early_stopping.mode": (monitor_of(config), config.early_stopping.mode),
    }
    found = {key: mode for key, (metric, mode) in modes.items() if metric == monitor}
    for mode in found.values():
        if mode != "auto":
            return mode == "max"
    name = monitor.removeprefix("val_")
    if name in ("loss", "data_loss"):
        return False
    directions = _directions(config)
    direction = directions.get(name)
    if direction is None and not any(word in name.lower() for word in _COSTS):
        key = next(iter(found), "training.selection_mode")
        near = difflib.get_close_matches(name, directions, n=1, cutoff=0.5)
        if near and name not in directions:
            raise ConfigError(
                f"A metric that selects or stops must be one of the run. Received: {monitor}. "
                f"Did you mean val_{near[0]}?"
            )
        raise ConfigError(
            f"`{key}` must be min or max for a metric that does not say whether it is to grow. "
            f"Received: {key}=auto with {monitor}. Set {key}=max if it is to grow."
        )
    return bool(direction)


def _directions(config: TrainingConfig, task: str = "classification") -> dict[str, bool | None]:
    """For the name of each metric whether it is to grow; None where it does not say."""
    import keras

    from l2keras_experiments.library import is_better_if_higher

    found: dict[str, bool | None] = {}
    for metric in metrics_of(config, task):
        if isinstance(metric, str) and metric.lower() in _ACCURACY:
            found[metric] = True
            continue
        made = keras.metrics.get(metric)
        if not isinstance(made, keras.metrics.Metric):  # a function
            made = keras.metrics.MeanMetricWrapper(made, name=getattr(made, "__name__", None))
        found[metric if isinstance(metric, str) else made.name] = is_better_if_higher(made)
    return found


def check_monitored(config: TrainingConfig, task: str, model: Any) -> None:
    """Raises ConfigError where a metric that selects or stops is not measured, or to no end.

    Args:
        config: Of the training.
        task: One of TASKS.
        model: Compiled. Where it has a train step of its own, that may measure anything.
    """
    import keras

    own = type(model).train_step is not keras.Model.train_step
    names = [
        *_directions(config, task),
        *(metric.name for metric in model.metrics if metric.name != "compile_metrics"),
    ]
    for key, monitor in _monitored(config).items():
        if not own:
            _check_measured(config, key, monitor, names)
        higher_is_better(config, monitor)


def check_monitored_names(config: TrainingConfig) -> None:
    """The same for a model of ours before Keras is loaded, where the metrics are names of Keras."""
    metrics = ["accuracy"] if config.metrics is None else config.metrics
    if all(isinstance(metric, str) for metric in metrics):
        for key, monitor in _monitored(config).items():
            _check_measured(config, key, monitor, metrics)


def _monitored(config: TrainingConfig) -> dict[str, str]:
    """What selects runs and what stops them early, by key."""
    found = {} if config.selection is None else {"training.selection": config.selection}
    if config.early_stopping.patience is not None:
        found["training.early_stopping.monitor"] = monitor_of(config)
    return found


def _check_measured(config: TrainingConfig, key: str, monitor: str, names: Iterable[str]) -> None:
    measured = list(dict.fromkeys([*names, "data_loss", "loss"]))
    valid = [f"val_{name}" for name in measured]
    if key != "training.selection":
        valid += [*measured, *_RECORDED]
    if monitor in valid or config.callbacks:  # a callback may add metrics
        return
    lower = {name.lower(): name for name in valid}
    near = difflib.get_close_matches(monitor.lower(), lower, n=1, cutoff=0.75)
    hint = f"Did you mean {lower[near[0]]}?" if near else f"Choose among: {', '.join(valid)}."
    raise ConfigError(
        f"`{key}` must be a metric of the run. Received: {key}={monitor}. {hint} "
        "training.metrics adds others."
    )
