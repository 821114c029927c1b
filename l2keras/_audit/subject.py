"""What the rules about findings look at, and how they name variables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras

from l2keras._audit.rows import Row
from l2keras._keras import optimizers
from l2keras._keras.held import own_optimizers


@dataclass(frozen=True)
class Item:
    """A row with what it was made from: the variable, its layer, the optimizer that updates it."""

    row: Row
    variable: Any
    owner: Any
    optimizer: Any | None


@dataclass(frozen=True)
class Subject:
    """What the rules look at; the callbacks without those that `fit` will refuse."""

    model: Any
    callbacks: tuple[Any, ...]
    items: tuple[Item, ...]

    @property
    def rows(self) -> list[Row]:
        return [item.row for item in self.items]

    @property
    def optimizers(self) -> list[Any]:
        """The optimizers that update variables, unwrapped."""
        held = own_optimizers(self.model).values()
        members = [member for one in held for member in optimizers.inner_optimizers(one)]
        return list({id(member): member for member in members}.values())


def is_traced(model: Any) -> bool:
    """True where Keras keeps a compiled step; torch and run_eagerly run Python every time."""
    function = getattr(model, "train_function", None)
    if function is None or model.run_eagerly or keras.backend.backend() == "torch":
        return False
    return type(function).__module__.split(".")[0] != "l2keras"  # in a `fit` with WeightDecay


def own_parts(model: Any) -> list[str]:
    """Those of train_step, compute_loss and losses that are not Keras' own."""
    return [name for name in ("train_step", "compute_loss", "losses") if _is_own(model, name)]


def _is_own(model: Any, name: str) -> bool:
    if getattr(type(model), name) is not getattr(keras.Model, name):
        return True
    replaced = vars(model).get(name)  # by l2keras.PenaltySplit it stays what it is
    module = str(getattr(replaced, "__module__", ""))
    return replaced is not None and module.split(".")[0] != "l2keras"


def peak_or_current(optimizer: Any) -> float:
    """The largest learning rate where it is known; else the present one."""
    try:
        return optimizers.peak_learning_rate(optimizer)
    except ValueError:
        return optimizers.current_learning_rate(optimizer)


def listed(names: Iterable[str], count: int = 3) -> str:
    """`4 variables (a, b, c, ...)`; in full up to three."""
    names = list(names)
    shown = ", ".join(names[:count]) + (", ..." if len(names) > count else "")
    return f"{len(names)} variable{'s' * (len(names) != 1)} ({shown})"


def paths(items: Iterable[Item]) -> str:
    return listed(item.row.path for item in items)


def sources(row: Row) -> list[str]:
    """What decays the variable: `regularizer`, `optimizer`, `callback`, one each."""
    penalized = row.trainable and (row.lam_regularizer or row.l1)
    found = ["regularizer"] if penalized else []
    found += ["optimizer"] if row.lam_optimizer else []
    return found + ["callback" for decay in row.callbacks if decay.lam or decay.schedule]
