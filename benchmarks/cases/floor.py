"""The floor: the bytes that a variant must move beyond a step of `none`, and the bandwidth.

A step without decay reads the weights W for the update and writes them, writes and reads their
gradient g, and reads and writes the momentum. A variant adds passes over W:

                              own operations                        fused with the update
    penalty (L2, HalfL2)      2: read W for its value and           1: read W for its value
                              for lam * W
    coupled                   1: read W for lam * W                 0: the update has W and g
    decoupled, independent    2: read W, write W                    0: the update reads, writes W
    optimizer weight_decay    2: the same, of all variables         0: the same

The sum g + lam * W replaces g, whose write and read the step has already. XLA fuses under jit. In
graph mode it fuses the updates that WeightDecay compiles.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np

from benchmarks.cases.variants import BUILTIN, COUPLED, HALF, NONE, OPTIMIZER, PLAIN
from benchmarks.kit import timing
from l2keras._keras import cluster
from l2keras._keras.variables import sublayers

COPIED, COPIES = 2**28, 15  # bytes of the array, how often


@dataclass(frozen=True)
class Sizes:
    """Bytes of the variables of a model.

    Attributes:
        decayed: Those of the decayed variables.
        trainable: Those of all trainable variables.
        fused: Those of the variables whose update WeightDecay compiles in graph mode.
    """

    decayed: int
    trainable: int
    fused: int


def bytes_of(variables: Iterable[Any]) -> int:
    """Returns the bytes of float32 variables."""
    return sum(4 * math.prod(variable.shape) for variable in variables)


def sizes_of(model: Any) -> Sizes:
    """Returns the sizes of a model whose decayed variables have a regularizer."""
    variables = model.trainable_variables
    decayed = [variable for variable in variables if variable.regularizer is not None]
    fused = []
    if keras.backend.backend() == "tensorflow":
        tables = [
            one.embeddings for one in sublayers(model) if isinstance(one, keras.layers.Embedding)
        ]
        sparse = {id(table) for table in tables}  # their gradients are sparse: no cluster
        fused = [v for v in decayed if cluster.is_large(v) and id(v) not in sparse]
    return Sizes(bytes_of(decayed), bytes_of(variables), bytes_of(fused))


def floor_bytes(name: str, mode: str, sizes: Sizes) -> int:
    """Returns the bytes that a step of the variant must move beyond a step of `none`."""
    if name in (BUILTIN, HALF):
        return (1 if mode == "jit" else 2) * sizes.decayed
    if name in (NONE, timing.again(NONE)) or mode == "jit":
        return 0
    if name == OPTIMIZER:
        return 2 * sizes.trainable
    fused = sizes.fused if mode == "graph" and name != PLAIN else 0
    return (1 if name == COUPLED else 2) * (sizes.decayed - fused)


def bandwidth() -> float:
    """Returns bytes per second, read and written, of a NumPy copy of 256 MiB on all cores."""
    source = np.ones(COPIED // 4, "float32")
    target = np.empty_like(source)
    cores = len(os.sched_getaffinity(0))
    parts = list(zip(np.array_split(source, cores), np.array_split(target, cores), strict=True))
    with ThreadPoolExecutor(cores) as pool:
        copy = partial(_copy, pool, parts)
        seconds = statistics.median(timing.timed(copy)[0] for _ in range(COPIES))
    return 2 * COPIED / seconds


def _copy(pool: ThreadPoolExecutor, parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
    list(pool.map(lambda part: np.copyto(part[1], part[0]), parts))
