"""Which attribute of a layer a variable's regularizer is saved in: Keras is asked, not guessed.

`kernel_regularizer`, `depthwise_regularizer`, the `_kernel_regularizer` of a
MultiHeadAttention for its four kernels, the one on the cell of an LSTM: each such attribute
is given a marked regularizer, the layer is rebuilt from its config as `load_model` and
`clone_model` do, and the variables of the copy show whose mark they carry.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import keras

from l2keras._keras.variables import model_variables, sublayers


@dataclass(frozen=True)
class Slot:
    """An attribute of a layer that holds a regularizer."""

    layer: Any
    name: str

    def get(self) -> Any:
        return getattr(self.layer, self.name)

    def set(self, regularizer: Any) -> None:
        setattr(self.layer, self.name, regularizer)


@keras.saving.register_keras_serializable(package="l2keras")
class _Mark(keras.regularizers.Regularizer):
    def __init__(self, index: int) -> None:
        self.index = index

    def get_config(self) -> dict[str, int]:
        return {"index": self.index}


def slots_for(model: Any, chosen: Sequence[Any]) -> tuple[list[Slot], set[int]]:
    """The slots to set so that a copy of `model` has a regularizer on `chosen` and no more.

    Returns:
        Those slots, and the ids of the variables that a copy then takes it from.
    """
    ids = {id(variable) for variable in chosen}
    owners = {id(entry.variable): entry.owner for entry in model_variables(model)}
    used: list[Slot] = []
    saved: set[int] = set()
    for unit in _units(model):
        inside = [owners.get(id(v), unit) for v in unit.weights if id(v) in ids]
        if not inside:
            continue
        outer = _slots(unit)
        inner = [_slots(owner) for owner in _unique(inside) if owner is not unit]
        governed: dict[Slot, set[int]] = {}
        for slot, variables in chain(outer, *inner):
            governed.setdefault(slot, set()).update(map(id, variables))
        good = {slot for slot, found in governed.items() if found <= ids}
        used += good
        saved |= {id(v) for slot, variables in outer if slot in good for v in variables}
    return used, saved


def _units(model: Any) -> list[Any]:
    """The outermost layers that have a config of their own: Keras' own models are opened."""
    if not isinstance(model, keras.Model) or type(model).__module__.split(".")[0] != "keras":
        return [model]
    return _unique([unit for layer in model.layers for unit in _units(layer)])


def _slots(layer: Any) -> list[tuple[Slot, list[Any]]]:
    """Each slot of `layer` and of those inside it, with the variables that a copy takes from it.

    Empty where no copy like `layer` can be made from its config. Variables that are frozen
    in the copy have no penalty there, and are left out.
    """
    candidates = [
        Slot(inner, name)
        for inner in sublayers(layer)
        for name, value in vars(inner).items()
        if name.endswith("regularizer")
        and "activity" not in name
        and (value is None or isinstance(value, keras.regularizers.Regularizer))
    ]
    with _marked(candidates):
        copies = _weights_of_a_copy(layer)
    governed: list[list[Any]] = [[] for _ in candidates]
    for variable, copy in zip(layer.weights, copies, strict=bool(copies)):
        if isinstance(copy.regularizer, _Mark) and copy.trainable:
            governed[copy.regularizer.index].append(variable)
    return [(slot, found) for slot, found in zip(candidates, governed, strict=True) if found]


@contextmanager
def _marked(candidates: Sequence[Slot]) -> Iterator[None]:
    before = [slot.get() for slot in candidates]
    try:
        for index, slot in enumerate(candidates):
            slot.set(_Mark(index))
        yield
    finally:
        for slot, regularizer in zip(candidates, before, strict=True):
            slot.set(regularizer)


def _weights_of_a_copy(layer: Any) -> list[Any]:
    """The weights of a copy made from the config, in the order of `layer.weights`, or none."""

    def by_shape(copy: Any) -> None:
        copy.build_from_config(layer.get_build_config())

    def by_call(copy: Any) -> None:  # a layer that has no `build` and builds others in `call`
        copy(layer.input)

    for build in (by_shape, by_call):
        copies = _copy(layer, build)
        if [_form(copy) for copy in copies] == [_form(weight) for weight in layer.weights]:
            return copies
    return []


def _copy(layer: Any, build: Callable[[Any], None]) -> list[Any]:
    classes = {type(inner).__name__: type(inner) for inner in sublayers(layer)}
    state = random.getstate()  # Keras draws the seeds of initializers from it
    try:
        with keras.saving.CustomObjectScope(classes), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copy = type(layer).from_config(layer.get_config())
            build(copy)
            return list(copy.weights)
    except Exception:  # whatever a layer's own code raises: it cannot be rebuilt
        return []
    finally:
        random.setstate(state)


def _unique(layers: list[Any]) -> list[Any]:
    return list({id(layer): layer for layer in layers}.values())


def _form(variable: Any) -> tuple[str, tuple[int, ...]]:
    return variable.name, tuple(variable.shape)
