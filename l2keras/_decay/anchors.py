"""What the weights are pulled toward: those at the start, or those in a checkpoint.

Source: Li, Grandvalet and Davoine, Explicit Inductive Bias for Transfer Learning with
Convolutional Networks (L2-SP), arXiv 1802.01483.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from keras import ops

from l2keras import _validation
from l2keras._keras.variables import model_variables

Toward: TypeAlias = "str | os.PathLike[str]"

_SUFFIXES = (".keras", ".weights.h5")


class Anchors:
    """The starting point of each model, taken once: a later `fit` is pulled to the same one."""

    def __init__(self, toward: Toward) -> None:
        self._path = None if toward == "init" else _check_checkpoint(toward)
        self._taken: WeakKeyDictionary[Any, dict[int, Any]] = WeakKeyDictionary()

    def of(self, model: Any) -> dict[int, Any]:
        """For the id of each variable its anchor, a tensor of its shape and dtype.

        Called outside a trace: inside one each tensor would become a constant of the graph.
        """
        if model not in self._taken:
            variables = [entry.variable for entry in model_variables(model)]
            values = model.get_weights() if self._path is None else _read(model, self._path)
            self._taken[model] = {
                id(variable): ops.convert_to_tensor(value, variable.dtype)
                for variable, value in zip(variables, values, strict=True)
            }
        return self._taken[model]


def _check_checkpoint(toward: Any) -> Path:
    if not isinstance(toward, (str, os.PathLike)):
        raise TypeError(_wrong(toward, f"of type {type(toward).__name__}"))
    path = Path(toward)
    if not path.name.endswith(_SUFFIXES):
        raise ValueError(_wrong(toward, "which is neither"))
    if not path.exists():
        raise ValueError(_wrong(toward, "which does not exist"))
    return path


def _wrong(toward: Any, why: str) -> str:
    return _validation.error(
        '`toward` must be "init" or a checkpoint, a .keras or .weights.h5 file.',
        f"toward={toward!r}, {why}",
        'Save one with model.save_weights("start.weights.h5").',
    )


def _read(model: Any, path: Path) -> list[np.ndarray]:
    """The weights in a checkpoint; the model and its optimizer come out as they went in."""
    kept, optimizer = model.get_weights(), getattr(model, "optimizer", None)
    model.optimizer = None  # its state in the checkpoint is not asked for
    try:
        model.load_weights(path)
        return list(model.get_weights())
    finally:
        model.optimizer = optimizer
        model.set_weights(kept)
