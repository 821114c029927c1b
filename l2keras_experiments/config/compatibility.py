"""Which built-in model takes which data. Light: it answers before a backend is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from l2keras_experiments.config import targets
from l2keras_experiments.config.schema import ConfigError, ModelConfig

MODULE = "l2keras_experiments.training.models"
# Passed where a target names them; data in batches do not have the last.
ALWAYS_SUPPLIED = ("input_shape", "num_outputs")
SUPPLIED = (*ALWAYS_SUPPLIED, "vocabulary_size")
ACTIVATIONS = ("linear", "relu", "elu", "gelu", "silu", "sigmoid", "tanh")
# By the kind of the inputs.
FITTING = {
    "image": ("linear", "mlp", "cnn", "resnet"),
    "features": ("linear", "mlp"),
    "tokens": ("transformer", "gru"),
}


def check_model(config: ModelConfig, kind: str | None, data: str) -> None:
    """Raises ConfigError for a model that cannot be built, as far as that shows now.

    Args:
        config: The model's target and arguments.
        kind: Of the inputs, where that is known.
        data: What the dataset is called.
    """
    targets.check("model", config.node, SUPPLIED)
    targets.check_not_supplied("model", config.node, ALWAYS_SUPPLIED, "the data")
    if config.target.rpartition(".")[0] != MODULE:
        return
    _check_arguments(config.arguments)
    if kind is not None:
        _check_kind(config.name, kind, f"as {data} has")


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    """Those of the built-in models, whose types have been checked."""
    for key in ("width", "depth"):
        if arguments.get(key, 1) < 1:
            raise ConfigError(
                f"`model.{key}` must be positive. Received: model.{key}={arguments[key]}. "
                f"Write a larger number, such as model.{key}=1."
            )
    dropout = arguments.get("dropout", 0.0)
    if not 0 <= dropout < 1:
        raise ConfigError(
            f"`model.dropout` must be in [0, 1). Received: model.dropout={dropout}. "
            "For no dropout write 0."
        )
    activation = arguments.get("activation", "relu")
    if activation not in ACTIVATIONS:
        raise ConfigError(
            f"`model.activation` must be one of {', '.join(ACTIVATIONS)}. "
            f"Received: model.activation={activation}. Choose one of them."
        )


def check_inputs(model: str, shape: Any, vocabulary_size: int) -> str:
    """The kind of inputs that a built-in model gets: "image", "features" or "tokens".

    Args:
        model: Its name.
        shape: Of one example.
        vocabulary_size: Count of distinct tokens; 0 where the inputs are none.

    Raises:
        ConfigError: the model does not take such inputs.
    """
    if not isinstance(shape, Sequence) or not all(isinstance(size, int) for size in shape):
        raise ConfigError(
            f"model={model} takes one array of inputs. Received: inputs of the shapes {shape}. "
            "Write a model of your own and name it by model._target_."
        )
    tokens = vocabulary_size and len(shape) == 1 and model in FITTING["tokens"]
    kind = "tokens" if tokens else "image" if len(shape) == 3 else "features"
    _check_kind(model, kind, f"here of the shape {tuple(shape)}")
    return kind


def _check_kind(model: str, kind: str, why: str) -> None:
    if model not in FITTING[kind]:
        raise ConfigError(
            f"The model must be one that takes {kind}, {why}. Received: model={model}. "
            f"Choose among: {', '.join(FITTING[kind])}."
        )
