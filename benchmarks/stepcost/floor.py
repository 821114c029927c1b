"""The floor: bytes that a variant must move beyond the step without it, and their speed.

A step without decay reads the weights W for the update and writes them, writes and reads their
gradient g, and reads and writes the momentum. What comes on top, in passes over W:

                              own operations                        fused with the update
    penalty (L2, HalfL2)      2: read W for its value and           1: read W for its value
                              for lam * W
    coupled                   1: read W for lam * W; the sum, as    0: the update has W and g
                              below
    decoupled, independent    2: read W, write W                    0: the update reads, writes W
    optimizer weight_decay    2: the same, of all variables         0: the same

The sum g + lam * W takes the place of g, whose writing and reading are in the step already. XLA
fuses under jit, and in graph mode where WeightDecay compiles the update.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from benchmarks.stepcost.variants import (
    AGAIN,
    BUILTIN,
    COUPLED,
    HALF,
    NONE,
    OPTIMIZER,
    PLAIN,
)
from l2keras._keras import cluster
from l2keras._keras.variables import sublayers

COPIED, COPIES = 2**28, 15  # bytes of the array, how often


@dataclass(frozen=True)
class Sizes:
    """Bytes of the decayed variables, of all trainable ones, and of those that WeightDecay fuses.

    That is, of those whose update and decay it compiles by itself in graph mode.
    """

    decayed: int
    trainable: int
    fused: int


def bytes_of(variables: Iterable[Any]) -> int:
    """Of float32."""
    return sum(4 * math.prod(variable.shape) for variable in variables)


def sizes_of(model: Any) -> Sizes:
    """The sizes of a model built with a regularizer, which its decayed variables have."""
    variables = model.trainable_variables
    decayed = [variable for variable in variables if variable.regularizer is not None]
    fused = []
    if keras.backend.backend() == "tensorflow":
        tables = [
            one.embeddings for one in sublayers(model) if isinstance(one, keras.layers.Embedding)
        ]
        sparse = {id(table) for table in tables}  # gradients of some rows, which no cluster takes
        fused = [v for v in decayed if cluster.is_large(v) and id(v) not in sparse]
    return Sizes(bytes_of(decayed), bytes_of(variables), bytes_of(fused))


def floor_bytes(name: str, mode: str, sizes: Sizes) -> int:
    """Bytes that a step of the variant must move beyond one of `none`."""
    if name in (BUILTIN, HALF):
        return (1 if mode == "jit" else 2) * sizes.decayed
    if name in (NONE, AGAIN) or mode == "jit":
        return 0
    if name == OPTIMIZER:
        return 2 * sizes.trainable
    fused = sizes.fused if mode == "graph" and name != PLAIN else 0
    return (1 if name == COUPLED else 2) * (sizes.decayed - fused)


def bandwidth() -> float:
    """Bytes read and written in a second by NumPy copying 256 MiB of float32, all cores at it."""
    source = np.ones(COPIED // 4, "float32")
    target = np.empty_like(source)
    cores = len(os.sched_getaffinity(0))
    parts = list(zip(np.array_split(source, cores), np.array_split(target, cores), strict=True))
    with ThreadPoolExecutor(cores) as pool:
        seconds = statistics.median(_copied(pool, parts) for _ in range(COPIES))
    return 2 * COPIED / seconds


def _copied(pool: ThreadPoolExecutor, parts: list[tuple[np.ndarray, np.ndarray]]) -> float:
    start = time.perf_counter()
    list(pool.map(lambda part: np.copyto(part[1], part[0]), parts))
    return time.perf_counter() - start
