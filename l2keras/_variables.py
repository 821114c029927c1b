"""Walks a model's variables: path, role, owner. Touches the private lists of Keras layers."""

from __future__ import annotations

from collections.abc import Iterator
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


def sublayers(layer: Any) -> list[Any]:
    """`layer` itself and every layer inside it, each once."""
    return list({id(found): found for found in layer._flatten_layers()}.values())


def _owned(model: Any) -> Iterator[tuple[Any, Any]]:
    for layer in model._flatten_layers(include_self=True, recursive=True):
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            yield layer, variable


def _unique(variables: list[Any]) -> list[Any]:
    return list({id(v): v for v in variables}.values())
