"""The optimizers that a model holds: a GAN has several beside the one of `compile`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from l2keras._keras.optimizers import inner_optimizers
from l2keras._keras.variables import sublayers


def held_optimizers(model: Any) -> dict[str, Any]:
    """The optimizers that `model` and its layers hold, by the name that finds them.

    `optimizer` is the one of `compile`; others have the name of their attribute: `d_optimizer`,
    `optimizers[0]`, `optimizers['d']`, and below a layer `discriminator.optimizer`.
    """
    named: dict[str, Any] = {}
    for layer in sublayers(model):
        prefix = "" if layer is model else f"{layer.name}."
        named |= {prefix + name: optimizer for name, optimizer in _held_by(layer).items()}
    return _each_once(named)


def own_optimizers(model: Any) -> dict[str, Any]:
    """The same without those of its layers, which may be of another training, as when loaded."""
    return _each_once(_held_by(model))


def _held_by(layer: Any) -> dict[str, Any]:
    attributes = {"optimizer": getattr(layer, "optimizer", None), **vars(layer)}
    named: dict[str, Any] = {}
    for name, value in attributes.items():
        if not name.startswith("_"):  # what a backend or Keras tracks by itself
            named |= _optimizers_in(name, value)
    return named


def _each_once(named: dict[str, Any]) -> dict[str, Any]:
    seen: dict[int, str] = {}
    return {key: one for key, one in named.items() if seen.setdefault(id(one), key) == key}


def optimizer_named(model: Any, name: str) -> Any:
    """The optimizer of that name in `held_optimizers`, or None; at once for an attribute."""
    attribute = getattr(model, name, None) if name.isidentifier() else None
    if isinstance(attribute, keras.optimizers.Optimizer):
        return attribute
    return held_optimizers(model).get(name)


@dataclass(frozen=True)
class Place:
    """Where a model holds an optimizer: an attribute of it or of a layer, or an item of that."""

    owner: Any
    attribute: str
    key: Any = None  # of a list, a tuple or a mapping

    def now(self) -> Any:
        """What the model holds there now; None where there is nothing."""
        value = getattr(self.owner, self.attribute, None)
        if self.key is None:
            return value
        try:
            return value[self.key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None


def place_of(model: Any, optimizer: Any) -> Place | None:
    """Returns where `model` or a layer holds `optimizer`, or what wraps it.

    A public attribute is preferred to one with a leading underscore.
    """
    places = [
        place
        for place, value in _places(model)
        if value is optimizer or any(one is optimizer for one in inner_optimizers(value))
    ]
    public = [place for place in places if not place.attribute.startswith("_")]
    return next(iter(public or places[::-1]), None)


def _places(model: Any) -> Iterator[tuple[Place, Any]]:
    """Every place that holds an optimizer, with what it holds."""
    for layer in sublayers(model):
        attributes = {"optimizer": getattr(layer, "optimizer", None), **vars(layer)}
        for name, value in attributes.items():
            items: list[tuple[Any, Any]] = [(None, value)]
            if isinstance(value, Mapping):
                items = list(value.items())
            elif isinstance(value, (list, tuple)):
                items = list(enumerate(value))
            for key, item in items:
                if isinstance(item, keras.optimizers.Optimizer):
                    yield Place(layer, name, key), item


def _optimizers_in(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, keras.optimizers.Optimizer):
        return {name: value}
    if isinstance(value, Mapping):
        parts = [(f"{name}[{key!r}]", part) for key, part in value.items()]
    elif isinstance(value, (list, tuple)):
        parts = [(f"{name}[{index}]", part) for index, part in enumerate(value)]
    else:
        return {}
    return {key: one for key, one in parts if isinstance(one, keras.optimizers.Optimizer)}


def updated_variables(optimizer: Any) -> set[int] | None:
    """The ids of the variables that the optimizer was built for; None before."""
    members = [member for member in inner_optimizers(optimizer) if member.built]
    if not members:
        return None
    return {id(variable) for member in members for variable in member._trainable_variables}
