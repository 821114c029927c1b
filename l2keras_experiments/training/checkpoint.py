"""The state of a training run after an epoch: what it takes to go on as if never interrupted.

Weights, optimizer, and the seeds of dropout are Keras variables. The order of the batches is
drawn from (seed, epoch), so the number of the epoch is all of it that has to be kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from l2keras_experiments.runtime import durable
from l2keras_experiments.runtime.naming import component
from l2keras_experiments.training.history import History, num_epochs

# The endings of the files of a run that is trained alone, and at once with others.
ALONE, STACKED = "state", "stacked.state"


@dataclass(frozen=True)
class Progress:
    """What a run has done so far.

    Attributes:
        history: For each metric its values, one an epoch.
        seconds: Wall time of `fit` so far, of all launches; in a group its share.
    """

    history: History
    seconds: float

    @property
    def epochs(self) -> int:
        return num_epochs(self.history)


def path_of(folder: Path, run_id: str, ending: str = ALONE) -> Path:
    """The file for a run. Trained at once with others, it has another form, thus another ending."""
    return folder / "checkpoints" / f"{component(run_id)}.{ending}"


def best_path(path: Path) -> Path:
    """The file for the weights of the best epoch, beside the checkpoint of a run."""
    return path.with_name(f"{path.name}.best")


def remove(folder: Path, run_id: str) -> None:
    """Removes what is kept of a run that is over, whichever way earlier launches trained it.

    Damaged files stay.
    """
    for ending in (ALONE, STACKED):
        path = path_of(folder, run_id, ending)
        for each in (path, best_path(path)):
            each.unlink(missing_ok=True)


def save(path: Path, model: Any, progress: Progress) -> None:
    """Writes the state of a compiled model; a kill in the middle leaves the one of before."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()  # during fit JAX keeps the values elsewhere
    write(path, [keras.ops.convert_to_numpy(v) for v in _variables(model)], progress)


def load(path: Path, model: Any) -> Progress | None:
    """Gives a compiled model, just built, the state that `save` has written; None without one."""
    variables = _variables(model)
    found = read(path, [tuple(variable.shape) for variable in variables])
    if found is None:
        return None
    arrays, progress = found
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return progress


def write(path: Path, arrays: Sequence[np.ndarray], progress: Progress) -> None:
    """Writes arrays and how far a run has come; a kill in the middle leaves what was there."""
    about = {
        "file": path.name,  # the state of another run under this name is noticed
        "history": progress.history,
        "seconds": progress.seconds,
        "arrays": [(array.dtype.name, array.shape) for array in arrays],
    }
    # One line and raw bytes: a third of the time of np.savez.
    durable.write(path, [json.dumps(about).encode() + b"\n", *map(_bytes, arrays)])


def read(
    path: Path, shapes: Sequence[tuple[int, ...]] = ()
) -> tuple[list[np.ndarray], Progress] | None:
    """What `write` has written; None where there is nothing that the run can go on from.

    A damaged file, another run's or one whose first arrays do not have these `shapes`, is renamed,
    and one line says so.
    """
    if not path.exists():
        return None
    try:
        return _decoded(path, shapes)
    except durable.Damaged as error:
        aside = durable.set_aside(path)
        durable.warn(f"{path} is damaged: {error}. It is now {aside.name}; the run begins anew.")
        return None


def _decoded(path: Path, shapes: Sequence[tuple[int, ...]]) -> tuple[list[np.ndarray], Progress]:
    content = durable.read(path)
    start = content.find(b"\n") + 1
    try:
        about = json.loads(content[:start])
        name, progress = about["file"], Progress(about["history"], about["seconds"])
        arrays, view = [], memoryview(content)
        for dtype, shape in about["arrays"]:
            size = np.dtype(dtype).itemsize * math.prod(shape)
            arrays.append(np.frombuffer(view[start : start + size], dtype).reshape(shape))
            start += size
    except (ValueError, KeyError, TypeError) as error:
        raise durable.Damaged("it is no checkpoint") from error
    if name != path.name or [array.shape for array in arrays[: len(shapes)]] != list(shapes):
        raise durable.Damaged("it is the checkpoint of another run")
    return arrays, progress


def _bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _variables(model: Any) -> Sequence[Any]:
    """Everything that training changes, seeds and the inner optimizer of a wrapper included."""
    model.optimizer.build(model.trainable_variables)
    found = [*model.variables, *model.optimizer.variables]
    return list({id(variable): variable for variable in found}.values())
