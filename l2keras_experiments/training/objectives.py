"""What a run minimizes, measures and calls: loss, metrics and callbacks, by the task or the config.

Keras is imported inside the functions, so that `check_training` can answer before a backend is.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from l2keras_experiments.config import keras_source, targets
from l2keras_experiments.config.schema import ConfigError, TrainingConfig

_LOSSES = {
    "classification": "SparseCategoricalCrossentropy",
    "multilabel": "BinaryCrossentropy",
    "regression": "MeanSquaredError",
}


def check_training(config: TrainingConfig) -> None:
    """Raises ConfigError for a loss, a metric or a callback that cannot be."""
    _check_objective("loss", "losses", config.loss)
    for key, value in _numbered("metrics", config.metrics):
        _check_objective(key, "metrics", value)
    _check_callbacks(config.callbacks)
    _check_class_weight(config.class_weight)


def _check_objective(key: str, kind: str, value: Any) -> None:
    if isinstance(value, Mapping):
        if value.get("_partial_"):
            raise ConfigError(
                f"`training.{key}` must name a function of (y_true, y_pred), or what makes a "
                f"{key.partition('.')[0]}. Received: _partial_=true. Leave it out."
            )
        if not _compares(targets.accepted(str(value.get(targets.TARGET))), value):
            targets.check(f"training.{key}", value)
    elif isinstance(value, str):
        keras_source.check_name(f"training.{key}", kind, value)
    elif value is not None:
        raise ConfigError(
            f"`training.{key}` must be a name of Keras, or have a `_target_`. "
            f"Received: training.{key}={value}. Write one of them, or null."
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


def check_class_weight(config: TrainingConfig, task: str, num_outputs: int) -> None:
    """Raises ConfigError unless `class_weight` has a weight for each class of the data."""
    if config.class_weight is None:
        return
    if task != "classification":
        raise ConfigError(
            f"`training.class_weight` needs classes, which a {task} does not have. "
            f"Received: training.class_weight={config.class_weight}. Leave it out."
        )
    if set(config.class_weight) != set(range(num_outputs)):
        raise ConfigError(
            "`training.class_weight` must have one weight for each class, from 0 to "
            f"{num_outputs - 1}. Received: training.class_weight={config.class_weight}. "
            "Classes are numbered in sorted order; the weight 1 changes nothing."
        )


def _compares(parameters: Mapping[str, inspect.Parameter], node: Mapping[str, Any]) -> bool:
    """Whether a target is itself a function of (y_true, y_pred), to be called with no other."""
    needed = [name for name, p in parameters.items() if p.default is p.empty]
    is_function = str(node.get(targets.TARGET)).rpartition(".")[2].islower()
    return is_function and len(needed) == 2 and node.keys() <= {targets.TARGET}


def loss_of(config: TrainingConfig, task: str) -> Any:
    """The loss without any penalty: as configured, else that of the task.

    One with a name compares logits, where Keras knows it for them, too: models return logits.
    """
    import keras

    if config.loss is None:
        logits = {} if task == "regression" else {"from_logits": True}
        return getattr(keras.losses, _LOSSES[task])(**logits)
    return _made("training.loss", config.loss, lambda name: _on_logits(keras.losses.get(name)))


def _on_logits(loss: Any) -> Any:
    """A loss of Keras by its class, from logits if it can."""
    import keras

    name = getattr(loss, "__name__", type(loss).__name__).replace("_", "").lower()
    kinds = {
        key.lower(): kind for key, kind in vars(keras.losses).items() if isinstance(kind, type)
    }
    kind = kinds.get(name)
    if kind is None or "from_logits" not in inspect.signature(kind).parameters:
        return loss
    return kind(from_logits=True)


def has_own_loss(model: Any) -> bool:
    """Whether the class of the model decides what its outputs are compared with."""
    import keras

    names = ("train_step", "compute_loss")
    return any(getattr(type(model), n) is not getattr(keras.Model, n) for n in names)


def _last_operation(model: Any) -> Any:
    """What makes the output of a functional or sequential model; None where that is unknown."""
    import keras

    last = model
    while isinstance(last, keras.Model):
        inner = (
            last.layers if isinstance(last, keras.Sequential) else getattr(last, "operations", [])
        )
        last = inner[-1] if inner else None
    return last


def check_logits(config: TrainingConfig, loss: Any, model: Any, target: str) -> None:
    """Raises ConfigError where a loss takes logits and a model ends in probabilities, or otherwise.

    Keras would train on, and learn little. Known of Keras' own losses, and of functional and
    sequential models.

    Args:
        config: Of the training.
        loss: As of `loss_of`.
        model: Built.
        target: Names it.
    """
    import keras

    settings = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    from_logits = settings.get("from_logits")
    last = _last_operation(model)
    activation = getattr(getattr(last, "activation", None), "__name__", None)
    activation = activation or type(last).__name__.lower()  # a layer, or one of keras.ops
    ends_in_probabilities = activation in ("softmax", "sigmoid")
    if from_logits and ends_in_probabilities:
        raise ConfigError(
            f"The loss takes logits: the model must not end in {activation}. Received: {target}, "
            "which does. Leave the activation out (classifier_activation: null in "
            "keras.applications), or set training.loss with a _target_ and from_logits: false."
        )
    if from_logits is False and activation == "linear":
        raise ConfigError(
            "`training.loss` takes probabilities, as from_logits is false, and the model must end "
            f"in them. Received: {target}, which ends in a {type(last).__name__} without an "
            "activation. Set training.loss.from_logits=true."
        )


def metrics_of(config: TrainingConfig, task: str) -> list[Any]:
    """What is measured beside losses."""
    import keras

    if config.metrics is not None:
        return [_metric(f"training.{k}", m) for k, m in _numbered("metrics", config.metrics)]
    if task == "multilabel":  # over all labels; the outputs are logits
        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)]
    return ["accuracy"] if task == "classification" else []


def _metric(key: str, value: Any) -> Any:
    """A metric of the config; its name is the same, however many there have been."""
    import keras

    from l2keras_experiments.library import uncounted_name

    made = _made(key, value, lambda name: name)
    if isinstance(made, keras.metrics.Metric) and "name" not in value:
        made.name = uncounted_name(made)
    return made


def check_on_targets(
    config: TrainingConfig, task: str, examples: Any, shape: Sequence[int]
) -> None:
    """Raises ConfigError for a configured loss or metric that cannot compare the targets.

    Args:
        config: Of the training.
        task: One of TASKS.
        examples: Some targets of the data.
        shape: Of the output for an example.
    """
    import keras

    size = (shape[-1] if shape else 1) + 3  # a shape that nothing is broadcast to
    y = np.resize(examples, (size, *examples.shape[1:]))
    outputs = np.zeros((size, *shape), keras.config.floatx())
    configured = [] if config.loss is None else [("loss", loss_of(config, task))]
    if config.metrics is not None:
        keys = [key for key, _ in _numbered("metrics", config.metrics)]
        configured += zip(keys, metrics_of(config, task), strict=True)
    for key, objective in configured:
        if isinstance(objective, str) and objective.lower() in ("accuracy", "acc"):
            continue  # Keras chooses by the shapes
        try:
            function = keras.metrics.get(objective) if key != "loss" else objective
            function(y, outputs)
        except Exception as error:  # of Keras, the backend and the user's own code
            name = getattr(objective, "name", getattr(objective, "__name__", objective))
            remedy = "Choose one that takes the numbers of classes, such as a sparse one."
            raise ConfigError(
                f"`training.{key}` must compare outputs of the shape {tuple(shape)} with targets "
                f"of the shape {tuple(examples.shape[1:])}. Received: {name}, which raised "
                f"{type(error).__name__}. "
                f"{remedy if task == 'classification' else 'Choose one that takes these.'}"
            ) from error


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
                f"Received: {type(made).__name__} from {node[targets.TARGET]}. "
                "Name another class, or correct what the function returns."
            )
        found.append(made)
    return found


def _made(key: str, value: Any, named: Any) -> Any:
    if not isinstance(value, Mapping):
        return named(value)
    if _compares(targets.accepted(str(value.get(targets.TARGET))), value):
        return targets.load(key, str(value[targets.TARGET]))
    return targets.instantiate(key, value)
