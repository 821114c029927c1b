"""Walks a model's variables: path, role, owner. Touches the private lists of Keras layers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

NORMALIZATION_LAYERS = tuple(
    getattr(keras.layers, name)
    for name in (
        "BatchNormalization",
        "GroupNormalization",
        "LayerNormalization",
        "RMSNormalization",
        "UnitNormalization",
    )
    if hasattr(keras.layers, name)
)


@dataclass(frozen=True)
class ModelVariable:
    """A variable of a model, once, with the layer that created it."""

    variable: Any
    owner: Any

    @property
    def path(self) -> str:
        """Keras' `variable.path`, such as `mlp/dense/kernel`."""
        return str(self.variable.path)

    @property
    def role(self) -> str:
        """The last part of the path: `kernel`, `bias`, `gamma`, `embeddings`, ..."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def in_normalization(self) -> bool:
        return isinstance(self.owner, NORMALIZATION_LAYERS)


def model_variables(model: Any) -> list[ModelVariable]:
    """Every weight of `model` once, in the order of `model.weights`, shared layers once too."""
    owners = {id(variable): layer for layer, variable in _owned(model)}
    return [ModelVariable(v, owners.get(id(v), model)) for v in _unique(model.weights)]


def is_built(model: Any) -> bool:
    """True once every layer has its variables; a model without shapes gets them in `fit`."""
    return all(layer.built for layer in model._flatten_layers())


def penalized(model: Any) -> list[Any]:
    """The variables whose regularizers Keras evaluates: trainable ones, each once."""
    return [variable for variable in model.trainable_weights if variable.regularizer is not None]


@contextmanager
def losses_once(model: Any) -> Iterator[list[Any]]:
    """`model.losses`, evaluated once: inside the block Keras reads this very list."""
    kept = model._losses_override  # of JAX's step, which has evaluated them already
    losses = list(kept or model.losses)
    vars(model)["_losses_override"] = losses
    try:
        yield losses
    finally:
        vars(model)["_losses_override"] = kept


def add_metrics(model: Any, metrics: Sequence[Any]) -> Any:
    """Adds metrics to a compiled model and returns their container, for `remove_metrics`.

    The container is one of those in which EarlyStopping looks up a metric's direction.
    """
    compile_utils: Any = importlib.import_module("keras.src.trainers.compile_utils")
    container = compile_utils.MetricsList(list(metrics))
    container.result = container.get_result
    model._metrics.append(container)
    return container


def remove_metrics(model: Any, container: Any) -> None:
    """Takes the container out again, if it is there."""
    model._metrics[:] = [metric for metric in model._metrics if metric is not container]


def sublayers(layer: Any) -> list[Any]:
    """`layer` itself and every layer inside it, each once."""
    return list({id(found): found for found in layer._flatten_layers()}.values())


def _owned(model: Any) -> Iterator[tuple[Any, Any]]:
    for layer in model._flatten_layers(include_self=True, recursive=True):
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            yield layer, variable


def _unique(variables: list[Any]) -> list[Any]:
    return list({id(v): v for v in variables}.values())
