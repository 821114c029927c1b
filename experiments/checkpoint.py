"""The state of a training run after an epoch: what it takes to go on as if never interrupted.

Weights, optimizer, and the seeds of dropout are Keras variables. The order of the batches is
drawn from (seed, epoch), so the number of the epoch is all of it that has to be kept.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import keras
import numpy as np


@dataclass(frozen=True)
class Progress:
    """What a run has done so far.

    Attributes:
        history: For each metric its values, one an epoch.
        seconds: Wall time of `fit` so far, of all launches; in a group its share.
    """

    history: dict[str, list[float]]
    seconds: float

    @property
    def epochs(self) -> int:
        return max((len(values) for values in self.history.values()), default=0)


def path_of(folder: Path, run_id: str, ending: str = "state") -> Path:
    """The file for a run. Trained at once with others, it has another form, thus another ending."""
    return folder / "checkpoints" / f"{run_id}.{ending}"


def remove(folder: Path, run_id: str) -> None:
    """Removes what is kept of a run that is over, whichever way earlier launches trained it."""
    for path in path_of(folder, run_id).parent.glob(f"{run_id}.*"):
        path.unlink(missing_ok=True)


def save(path: Path, model: Any, progress: Progress) -> None:
    """Writes the state of a compiled model; a kill in the middle leaves the one of before."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()  # during fit JAX keeps the values elsewhere
    write(path, [keras.ops.convert_to_numpy(v) for v in _variables(model)], progress)


def load(path: Path, model: Any) -> Progress | None:
    """Gives a compiled model, just built, the state that `save` has written; None without one."""
    found = read(path)
    if found is None:
        return None
    arrays, progress = found
    for variable, array in zip(_variables(model), arrays, strict=True):
        variable.assign(array)
    return progress


def write(path: Path, arrays: Sequence[np.ndarray], progress: Progress) -> None:
    """Writes arrays and how far a run has come; a kill in the middle leaves what was there."""
    about = {
        "history": progress.history,
        "seconds": progress.seconds,
        "arrays": [(array.dtype.name, array.shape) for array in arrays],
    }
    new = path.with_suffix(".new")
    path.parent.mkdir(parents=True, exist_ok=True)
    with new.open("wb") as file:  # one line and raw bytes: a third of the time of np.savez
        file.write(json.dumps(about).encode() + b"\n")
        file.writelines(array.tobytes() for array in arrays)
    os.replace(new, path)


def read(path: Path) -> tuple[list[np.ndarray], Progress] | None:
    """What `write` has written; None where there is nothing."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        about = json.loads(file.readline())
        arrays = [_array(file, np.dtype(name), shape) for name, shape in about["arrays"]]
    return arrays, Progress(about["history"], about["seconds"])


def _array(file: BinaryIO, dtype: np.dtype, shape: Sequence[int]) -> np.ndarray:
    size = dtype.itemsize * math.prod(shape)
    return np.frombuffer(bytearray(file.read(size)), dtype).reshape(shape)


def _variables(model: Any) -> Sequence[Any]:
    """Everything that training changes, seeds and the inner optimizer of a wrapper included."""
    model.optimizer.build(model.trainable_variables)
    found = [*model.variables, *model.optimizer.variables]
    return list({id(variable): variable for variable in found}.values())
