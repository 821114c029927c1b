"""Walks a model's variables: path, role, owner."""

from __future__ import annotations

import re
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

# Names of learned positions and tokens; `position_wise`, `pos_tag_embedding` are none of them.
_POSITIONAL_NAME = re.compile(
    r"(?<!and_)(?<![a-z])(pos|position|positional)_?(emb|embs|embed|embedding|embeddings|encoding)"
    r"(_?\d+)?(_|$)"
    r"|(?<![a-z])rel(ative)?_pos(ition)?(_|$)"
    r"|(?<![a-z])(cls|class|dist|distillation|register|mask)_tokens?(_|$)"
)
_POSITIONAL_CLASS = re.compile(r"(?<!And)Position(al)?(Emb|Encod)")


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

    @property
    def is_positional(self) -> bool:
        """True for learned positions and class tokens, by the names of variable and layer."""
        if self.role.endswith("kernel"):
            return False
        names = [part.lower() for part in self.path.split("/")[-2:]]
        by_name = any(_POSITIONAL_NAME.search(name) for name in names)
        return by_name or bool(_POSITIONAL_CLASS.search(type(self.owner).__name__))

    @property
    def kind(self) -> str:
        """`norm`, `bias`, `positional`, `vector` (any other of rank < 2) or `kernel`."""
        rank = len(self.variable.shape)
        if self.in_normalization or (rank < 2 and "Norm" in type(self.owner).__name__):
            return "norm"
        if self.role.endswith("bias"):
            return "bias"
        if self.is_positional:
            return "positional"
        return "vector" if rank < 2 else "kernel"


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


def own_variables(layer: Any) -> list[Any]:
    """The variables that `layer` created itself, without those of the layers inside it."""
    return list(layer._trainable_variables + layer._non_trainable_variables)


def _owned(model: Any) -> Iterator[tuple[Any, Any]]:
    for layer in model._flatten_layers(include_self=True, recursive=True):
        for variable in own_variables(layer):
            yield layer, variable


def _unique(variables: list[Any]) -> list[Any]:
    return list({id(v): v for v in variables}.values())


@contextmanager
def standing_in(variables: Sequence[Any], others: Sequence[Any]) -> Iterator[None]:
    """In the block these Keras `variables` read and assign `others`.

    Variables of TensorFlow, or tensors of torch.
    """
    own = [variable._value for variable in variables]
    try:
        for variable, other in zip(variables, others, strict=True):
            variable._value = other
        yield
    finally:
        for variable, value in zip(variables, own, strict=True):
            variable._value = value
