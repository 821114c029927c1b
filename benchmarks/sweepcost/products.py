"""The matrix products of a stacked step, alone: the least time that a sweep of dense layers takes.

A linear model: forward, to the inputs of its layers, and to its kernels; nothing else, in the loop
that a sweep has. On TensorFlow of its operations and of what XLA compiles the faster one counts.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from l2keras._sweep import loops, stacking, vectorize

CALLS = 9
STEPS = 37  # in a call; those of an epoch of digits


def kernels_of(model: Any) -> list[tuple[int, int]]:
    """The shapes of the kernels, where all layers are dense; else none."""
    if any(type(layer).__name__ != "Dense" for layer in model.layers):
        return []
    return [tuple(layer.kernel.shape) for layer in model.layers]


def operations(shapes: Iterable[tuple[int, int]], members: int, batch: int) -> int:
    """Floating-point operations of a step; the first layer needs no gradient of its input."""
    first, *rest = (2 * members * batch * math.prod(shape) for shape in shapes)
    return 2 * first + 3 * sum(rest)


def seconds(model: Any, members: int, batch: int) -> float:
    """The products of one step: the median of `CALLS` calls of the faster loop."""
    forms: list[list[int]] = [[]]
    if keras.backend.backend() == "tensorflow":
        forms.append([batch])
    return min(_median(model, members, batch, clusters) for clusters in forms)


def gradients(x: Any, kernels: Sequence[Any]) -> list[Any]:
    """Of `sum(y ** 2) / 2` for the kernels of each member, the last kernel's first."""
    inputs = [x]
    for kernel in kernels:
        inputs.append(ops.matmul(inputs[-1], kernel))
    error, found = inputs[-1], []
    for number in reversed(range(len(kernels))):
        found.append(ops.matmul(ops.swapaxes(inputs[number], 1, 2), error))
        if number > 0:
            error = ops.matmul(error, ops.swapaxes(kernels[number], 1, 2))
    return found


def _median(model: Any, members: int, batch: int, clusters: Sequence[int]) -> float:
    loop = _loop(model, members, batch, clusters)
    indices = np.arange(STEPS * batch, dtype="int32").reshape(STEPS, batch)
    found = []
    with loops.threads() as pool:
        loop(indices, pool)  # compiles
        for _ in range(CALLS):
            start = time.perf_counter()
            loop(indices, pool)
            found.append(time.perf_counter() - start)
    return statistics.median(found) / STEPS


def _loop(model: Any, members: int, batch: int, clusters: Sequence[int]) -> loops.Loop:
    each = stacking.stack_size(model, members, clusters)
    stacks = math.ceil(members / each)
    shapes = [(each, *shape) for shape in kernels_of(model)]
    normal = np.random.default_rng(0).normal
    kernels = [
        [keras.Variable(0.01 * normal(size=s), dtype="float32") for s in shapes]
        for _ in range(stacks)
    ]
    grads = [[keras.Variable(np.zeros(s), dtype="float32") for s in shapes] for _ in range(stacks)]

    def step(x: Any, y: Any) -> None:
        found = gradients(
            vectorize.repeated(x, each), [ops.convert_to_tensor(k) for k in kernels[0]]
        )
        for variable, gradient in zip(grads[0], reversed(found), strict=True):
            variable.assign(gradient)

    x = normal(size=(STEPS * batch, shapes[0][1])).astype("float32")
    variables = [[*k, *g] for k, g in zip(kernels, grads, strict=True)]
    return loops.Loop(step, variables, x, np.zeros(len(x)), clusters=clusters)
