"""What the weights are pulled toward: those at the start, or those in a checkpoint.

Source: Li, Grandvalet and Davoine, Explicit Inductive Bias for Transfer Learning with
Convolutional Networks (L2-SP), arXiv 1802.01483.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from keras import ops

from l2keras import _validation
from l2keras._keras.backup import Backup
from l2keras._keras.optimizers import inner_optimizers
from l2keras._keras.variables import model_variables

Toward: TypeAlias = "str | os.PathLike[str]"

_LOGGER = logging.getLogger("l2keras")

_SUFFIXES = (".keras", ".weights.h5")


class Anchors:
    """The starting point of each model, taken once: a later `fit` is pulled to the same one."""

    def __init__(self, toward: Toward) -> None:
        self.toward = toward
        self._path = _check_checkpoint(toward)
        self._taken: WeakKeyDictionary[Any, dict[int, Any]] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: a model that the copy meets begins with weights of its own."""
        return {"toward": self.toward, "_path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _taken=WeakKeyDictionary())

    def begin(self, model: Any, backup: Backup | None = None) -> None:
        """Takes the starting point of `model`; with a backup it outlives the process.

        Raises:
            ValueError: `fit` restores a backup that holds no starting point.
        """
        if self._path is not None:
            return
        if model not in self._taken:
            self._take(model, _start(model, backup))
        if backup is not None and not backup.restores:
            backup.make_folder()
            _write(model, backup.path, list(self._taken[model].values()))

    def of(self, model: Any) -> dict[int, Any]:
        """For the id of each variable its anchor, a tensor of its shape and dtype.

        Called outside a trace: inside one each tensor would become a constant of the graph.
        """
        if model not in self._taken:
            self._take(model, model.get_weights() if not self._path else _read(model, self._path))
        return self._taken[model]

    def _take(self, model: Any, values: Sequence[Any]) -> None:
        variables = [entry.variable for entry in model_variables(model)]
        self._taken[model] = {
            id(variable): ops.convert_to_tensor(value, variable.dtype)
            for variable, value in zip(variables, values, strict=True)
        }


def _start(model: Any, backup: Backup | None) -> list[np.ndarray]:
    """The weights W_0: those beside the checkpoint that `fit` goes on from, or those of now."""
    if backup is not None and backup.restores:
        if not backup.has_file:
            raise ValueError(_no_start(backup.folder))
        return _read(model, backup.path)
    if _has_trained(model):
        _LOGGER.warning("%s", _TRAINED)
    return list(model.get_weights())


_TRAINED = (
    '`toward="init"` takes the weights with which this `fit` begins, but the optimizer has made '
    "steps before. If the weights were restored, pass toward= a file with the weights W_0, or "
    "use keras.callbacks.BackupAndRestore: W_0 is then kept beside its checkpoint."
)


def _has_trained(model: Any) -> bool:
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return False
    return int(ops.convert_to_numpy(inner_optimizers(optimizer)[0].iterations)) > 0


def _no_start(folder: str) -> str:
    return _validation.error(
        '`toward="init"` needs the weights W_0 from before the backup.',
        f"a backup in {folder} that was written without them",
        "Pass toward= a file with the weights W_0.",
    )


def _check_checkpoint(toward: Any) -> Path | None:
    """The path of a checkpoint; None for "init"."""
    check_toward(toward)
    if isinstance(toward, str) and toward == "init":
        return None
    path = Path(toward)
    if not path.name.endswith(_SUFFIXES):
        raise ValueError(_wrong(toward, "which is neither"))
    if not os.path.isfile(path):
        raise ValueError(_wrong(toward, "which does not exist, or is a folder"))
    return path


def check_toward(toward: Any) -> None:
    """Raises TypeError unless `toward` is a string or a path."""
    try:
        is_path = isinstance(os.fspath(toward), str)
    except Exception:  # TypeError for what is no path; whatever the code of a path raises
        is_path = False
    if not is_path:
        raise TypeError(_wrong(toward, f"of type {type(toward).__name__}"))


def _wrong(toward: Any, why: str) -> str:
    return _validation.error(
        '`toward` must be "init" or a checkpoint, a .keras or .weights.h5 file.',
        f"toward={_validation.shown(toward)}, {why}",
        'Save one with model.save_weights("start.weights.h5").',
    )


def _read(model: Any, path: str | Path) -> list[np.ndarray]:
    """The weights in a checkpoint; the model and its optimizer come out as they went in."""
    with _borrowed(model):
        model.load_weights(path)
        return list(model.get_weights())


def _write(model: Any, path: str, values: Sequence[Any]) -> None:
    with _borrowed(model):
        model.set_weights([ops.convert_to_numpy(value) for value in values])
        model.save_weights(path, overwrite=True)


@contextmanager
def _borrowed(model: Any) -> Iterator[None]:
    """Puts the weights back at the end, and leaves the state of the optimizer out of files."""
    kept, optimizer = model.get_weights(), getattr(model, "optimizer", None)
    model.optimizer = None
    try:
        yield
    finally:
        model.optimizer = optimizer
        model.set_weights(kept)
