"""Walks a model's variables: path, role, owner."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
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

# What Keras names a variable that was given no name.
_AUTOMATIC = re.compile(r"variable(_\d+)?")


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

    @cached_property
    def names(self) -> list[str]:
        """Its own name, unless automatic, and that of the owner's attribute that holds it.

        Of a TorchModuleWrapper the name in the module, after the class: `LayerNorm.weight`.
        """
        own = [] if _AUTOMATIC.fullmatch(self.role) else [self.role]
        own += self._names_in_torch()
        return own + [key for key, value in vars(self.owner).items() if self._is_in(key, value)]

    def _names_in_torch(self) -> list[str]:
        module: Any = getattr(self.owner, "module", None)
        if not hasattr(module, "named_parameters"):
            return []
        paths = [path for path, one in module.named_parameters() if one is self.variable.value]
        parts = [path.rpartition(".") for path in paths]
        return [f"{type(module.get_submodule(at)).__name__}.{name}" for at, _, name in parts]

    def _is_in(self, key: str, value: Any) -> bool:
        if not isinstance(value, (dict, list, tuple)):
            return value is self.variable
        held = value.values() if isinstance(value, dict) else value
        return key not in _TRACKED and any(one is self.variable for one in held)

    @property
    def input_shapes(self) -> list[tuple[int | None, ...]]:
        """The shapes that the owner was built with, the batch included; none where not known."""
        shapes = (self.owner._build_shapes_dict or {}).values()
        return [tuple(shape) for shape in shapes if isinstance(shape, (tuple, list))]


# Where Keras lists the variables of a layer.
_TRACKED = ("_trainable_variables", "_non_trainable_variables")


def model_variables(model: Any) -> list[ModelVariable]:
    """Every weight of `model` once, in the order of `model.weights`, shared layers once too."""
    owners = {id(variable): layer for layer, variable in _owned(model)}
    return [ModelVariable(v, owners.get(id(v), model)) for v in _unique(model.weights)]


def is_built(model: Any) -> bool:
    """True once every layer has its variables; a model without shapes gets them in `fit`.

    A model of built layers that is never called itself, as one with a `train_step` and no
    `call`, has them all, though Keras never calls it built. A layer without a `build` of its
    own makes none.
    """
    exist = model.built or model.weights
    return bool(exist) and not any(map(_may_get_variables, model._flatten_layers()))


def has_variables(model: Any) -> bool:
    """True once the variables exist that the model uses: a layer never called has none."""
    return is_built(model) or bool(model.built and model.weights)


def _may_get_variables(layer: Any) -> bool:
    return not (layer.built or _is_container(layer))


def _is_container(layer: Any) -> bool:
    """True for what has no variables but those of the layers inside: it is never built itself."""
    builds_nothing = type(layer).build in (keras.Layer.build, keras.Model.build)
    never_called = isinstance(layer, keras.Model) and type(layer).call is keras.Model.call
    return builds_nothing or never_called or isinstance(layer, keras.Sequential)


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
