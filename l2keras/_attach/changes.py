"""What an attachment changed, and what it takes to change it back."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from l2keras._keras.variables import own_variables


@dataclass(frozen=True)
class Change:
    """What happened to the regularizer of one variable."""

    path: str  # of the variable
    layer: str  # the name of the layer that created it
    previous: Any  # the regularizer that it had, or None
    regularizer: Any  # the one that it has now, or None
    persistent: bool  # do save, clone_model and to_json keep it?

    def reversed(self) -> Change:
        """The change that takes this one back."""
        return replace(self, previous=self.regularizer, regularizer=self.previous, persistent=True)

    def __str__(self) -> str:
        lost = "" if self.persistent else " (not saved with the model)"
        return f"{self.path}: {describe(self.previous)} -> {describe(self.regularizer)}{lost}"


@dataclass(frozen=True)
class Setting:
    """One attribute that is set, with what it takes to set it back."""

    target: weakref.ref[Any]
    name: str
    before: Any
    after: Any

    def do(self) -> None:
        setattr(self.target(), self.name, self.after)

    def undo(self) -> Any:
        """Returns what was set back, or None where it is gone."""
        target = self.target()
        if target is not None:
            setattr(target, self.name, self.before)
        return target


@dataclass(frozen=True, eq=False)
class Attachment:
    """What one `attach` changed: `changes`, one for each variable. Pass it to `detach`."""

    changes: tuple[Change, ...]
    settings: tuple[Setting, ...] = field(repr=False)
    model: weakref.ref[Any] = field(repr=False)

    @property
    def persistent(self) -> bool:
        """True where every change survives saving and cloning."""
        return all(change.persistent for change in self.changes)

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes))


def inherited(settings: Sequence[Setting]) -> list[tuple[Change, Setting]]:
    """What a layer has put on variables that it created since: a LoRA pair has its kernel's.

    Each goes back to what the layer's attribute goes back to: where several of the layer had
    the same regularizer, the one whose role is in the variable's name.
    """
    known = {id(setting.target()) for setting in settings}
    found: dict[int, tuple[Change, Setting]] = {}
    for setting in settings:
        layer = setting.target()
        if not isinstance(layer, keras.Layer):
            continue
        role = setting.name.removesuffix("_regularizer").lstrip("_")
        for variable in own_variables(layer):
            if id(variable) in known or variable.regularizer is not setting.after:
                continue
            if id(variable) not in found or role in variable.name:
                change = Change(variable.path, layer.name, setting.before, setting.after, True)
                ours = replace(setting, target=weakref.ref(variable), name="regularizer")
                found[id(variable)] = change, ours
    return list(found.values())


def describe(regularizer: Any) -> str:
    """`L2(l2=0.01)`; Keras' regularizers have no repr."""
    if regularizer is None:
        return "None"
    try:
        config = regularizer.get_config()
    except NotImplementedError:  # of keras.regularizers.Regularizer, where a subclass has none
        return type(regularizer).__name__
    values = ", ".join(
        f"{key}={float(value):.6g}" if isinstance(value, (float, np.ndarray)) else f"{key}={value}"
        for key, value in config.items()
    )
    return f"{type(regularizer).__name__}({values})"
