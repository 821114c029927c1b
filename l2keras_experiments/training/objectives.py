"""What a run minimizes, measures and calls: loss, metrics and callbacks, by the task or the config.

Keras is imported inside the functions, so that `check_training` can answer before a backend is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from l2keras_experiments.config import targets
from l2keras_experiments.config.schema import ConfigError, TrainingConfig

_LOSSES = {
    "classification": "SparseCategoricalCrossentropy",
    "multilabel": "BinaryCrossentropy",
    "regression": "MeanSquaredError",
}
_BETTER_IF_HIGHER = ("accuracy", "auc", "f1", "precision", "recall", "r2")


def check_training(config: TrainingConfig) -> None:
    """Raises ConfigError for a loss, a metric, a callback or a stopping rule that cannot be."""
    for key, value in (("loss", config.loss), *_numbered("metrics", config.metrics)):
        if isinstance(value, Mapping):
            targets.check(f"training.{key}", value)
        elif value is not None and not isinstance(value, str):
            raise ConfigError(
                f"`training.{key}` must be a name of Keras, or have a `_target_`. "
                f"Received: training.{key}={value}."
            )
    _check_callbacks(config.callbacks)
    _check_class_weight(config.class_weight)
    stopping = config.early_stopping
    if stopping.patience is not None and stopping.patience < 1:
        raise ConfigError(
            "`training.early_stopping.patience` must be at least 1. Received: "
            f"training.early_stopping.patience={stopping.patience}. For no early stop pass null."
        )
    if stopping.mode not in ("auto", "min", "max"):
        raise ConfigError(
            "`training.early_stopping.mode` must be auto, min or max. "
            f"Received: training.early_stopping.mode={stopping.mode}."
        )
    if stopping.patience is not None and config.validation_freq > 1:
        raise ConfigError(
            "Early stopping needs a validation after each epoch. Received: "
            f"training.validation_freq={config.validation_freq} with "
            f"training.early_stopping.patience={stopping.patience}. Leave one of them out."
        )


def _numbered(key: str, values: Any) -> list[tuple[str, Any]]:
    if values is not None and not isinstance(values, list):
        raise ConfigError(
            f"`training.{key}` must be a list. Received: training.{key}={values}. Write [a,b]."
        )
    return [(f"{key}.{number}", value) for number, value in enumerate(values or [])]


def _check_callbacks(callbacks: Any) -> None:
    for key, value in _numbered("callbacks", callbacks):
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"`training.{key}` must be a mapping with a `_target_`. "
                f"Received: training.{key}={value}. Write callbacks: [{{_target_: {value}}}]."
            )
        targets.check(f"training.{key}", value)


def _check_class_weight(weights: Any) -> None:
    valid = weights is None or (
        isinstance(weights, Mapping)
        and all(isinstance(key, int) for key in weights)
        and all(isinstance(value, int | float) and value >= 0 for value in weights.values())
    )
    if not valid:
        raise ConfigError(
            "`training.class_weight` must map numbers of classes to weights. "
            f"Received: training.class_weight={weights}. Write {{0: 1.0, 1: 5.0}}."
        )


def loss_of(config: TrainingConfig, task: str) -> Any:
    """The loss without any penalty: as configured, else that of the task on logits."""
    import keras

    if config.loss is None:
        logits = {} if task == "regression" else {"from_logits": True}
        return getattr(keras.losses, _LOSSES[task])(**logits)
    return _made("training.loss", config.loss, keras.losses.get)


def metrics_of(config: TrainingConfig, task: str) -> list[Any]:
    """What is measured beside losses."""
    import keras

    if config.metrics is not None:
        return [_made(f"training.{k}", m, lambda name: name)
                for k, m in _numbered("metrics", config.metrics)]  # fmt: skip
    if task == "multilabel":  # over all labels; the outputs are logits
        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)]
    return ["accuracy"] if task == "classification" else []


def data_loss_metric(config: TrainingConfig, task: str) -> Any:
    """The loss without the penalty; Keras' own `loss` and `val_loss` contain it."""
    import keras

    if config.loss is None:
        logits = {} if task == "regression" else {"from_logits": True}
        return getattr(keras.metrics, _LOSSES[task])(name="data_loss", **logits)
    loss = loss_of(config, task)
    function = loss.call if isinstance(loss, keras.losses.Loss) else loss
    return keras.metrics.MeanMetricWrapper(function, name="data_loss")


def callbacks_of(config: TrainingConfig) -> list[Any]:
    """The user's own callbacks.

    Raises:
        ConfigError: a target that makes something else.
    """
    import keras

    found = []
    for key, node in _numbered("callbacks", config.callbacks):
        made = targets.instantiate(f"training.{key}", node)
        if not isinstance(made, keras.callbacks.Callback):
            raise ConfigError(
                f"`training.{key}` must make a keras.callbacks.Callback. "
                f"Received: {type(made).__name__} from {node[targets.TARGET]}."
            )
        found.append(made)
    return found


def is_better_if_higher(monitor: str, mode: str = "auto") -> bool:
    """Whether a metric is to grow."""
    if mode != "auto":
        return mode == "max"
    return any(word in monitor.lower() for word in _BETTER_IF_HIGHER)


def _made(key: str, value: Any, named: Any) -> Any:
    return targets.instantiate(key, value) if isinstance(value, Mapping) else named(value)
