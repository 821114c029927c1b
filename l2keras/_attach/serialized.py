"""Which attribute of a layer a variable's regularizer is saved in: Keras is asked, not guessed.

`kernel_regularizer`, `depthwise_regularizer`, the `_kernel_regularizer` of a
MultiHeadAttention for its four kernels, the one on the cell of an LSTM, the `reg` of a custom
layer: each such attribute is given a marked regularizer, the layer is rebuilt from its config
as `load_model` and `clone_model` do, and the variables of the copy show whose mark they carry.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, product
from typing import Any, TypeAlias

import keras

from l2keras._keras.rehearsal import rehearsal
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


Governed: TypeAlias = list[tuple[Slot, list[Any]]]


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
        outer = _slots(unit, ids)
        inner = [_slots(owner, ids) for owner in _unique(inside) if owner is not unit]
        governed: dict[Slot, set[int]] = {}
        for slot, variables in chain(outer, *inner):
            governed.setdefault(slot, set()).update(map(id, variables))
        good = {slot for slot, found in governed.items() if found <= ids}
        used += good
        saved |= {id(v) for slot, variables in outer if slot in good for v in variables}
    return used, saved


def _units(model: Any) -> list[Any]:
    """The outermost layers that have a config of their own: Keras' own models are opened."""
    if not isinstance(model, keras.Model) or not _is_of_keras(model):
        return [model]
    return _unique([unit for layer in model.layers for unit in _units(layer)])


def _slots(layer: Any, chosen: set[int]) -> Governed:
    """Each slot of `layer` and of those inside it, with the variables that a copy takes from it.

    An attribute with a name of its own is tried where one of `chosen` is left over, and alone:
    what is None may be anything, and with a mark for it the layer may not be rebuilt at all.
    """
    empty = [
        Slot(inner, name)
        for inner in sublayers(layer)
        for name, value in vars(inner).items()
        if "activity" not in name
        and (value is None or isinstance(value, keras.regularizers.Regularizer))
    ]
    found = _governed(layer, [slot for slot in empty if slot.name.endswith("regularizer")])
    left = chosen & {id(v) for v in layer.weights}
    left -= {id(v) for _, variables in found or () for v in variables}
    if left and found is not None:
        for slot in filter(_is_in_a_config, empty):
            found += _governed(layer, [slot]) or []
    return found or []


def _is_in_a_config(slot: Slot) -> bool:
    """True for `self.reg` of a layer, not of Keras' own, whose config has a `reg`."""
    if slot.name.endswith("regularizer") or _is_of_keras(slot.layer):
        return False
    try:
        return slot.name.lstrip("_") in slot.layer.get_config()
    except Exception:  # whatever a layer's own code raises: it has no config
        return False


def _governed(layer: Any, candidates: Sequence[Slot]) -> Governed | None:
    """The variables that a copy of `layer` takes from each of `candidates`, if from any.

    None where no copy like `layer` can be made from its config. Variables that are frozen
    in the copy have no penalty there, and are left out.
    """
    with _marked(candidates):
        copies = _weights_of_a_copy(layer)
    if not copies:
        return None
    governed: list[list[Any]] = [[] for _ in candidates]
    for variable, copy in zip(layer.weights, copies, strict=True):
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

    for with_arrays, build in product((False, True), (by_shape, by_call)):
        with rehearsal(with_arrays=with_arrays):
            copies = _copy(layer, build)
        if [_form(copy) for copy in copies] == [_form(weight) for weight in layer.weights]:
            return copies
    return []


def _copy(layer: Any, build: Callable[[Any], None]) -> list[Any]:
    classes = {type(inner).__name__: type(inner) for inner in sublayers(layer)}
    try:
        with keras.saving.CustomObjectScope(classes), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copy = type(layer).from_config(layer.get_config())
            build(copy)
            return list(copy.weights)
    except Exception:  # whatever a layer's own code raises: it cannot be rebuilt
        return []


def _is_of_keras(layer: Any) -> bool:
    return type(layer).__module__.split(".")[0] == "keras"


def _unique(layers: list[Any]) -> list[Any]:
    return list({id(layer): layer for layer in layers}.values())


def _form(variable: Any) -> tuple[str, tuple[int, ...]]:
    return variable.name, tuple(variable.shape)
