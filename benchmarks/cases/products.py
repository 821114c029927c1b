"""The matrix products of stacked dense layers, alone: a lower bound of the time of a sweep.

A linear model computes its outputs, the gradients of its layers' inputs and those of its kernels,
in the loop of a sweep. On TensorFlow the faster one of plain operations and XLA counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from benchmarks.kit.timing import paired_calls
from l2keras._sweep import loops, stacking, vectorize

ROUNDS = 9
STEPS = 37  # in a call: an epoch of digits


def kernels_of(model: Any) -> list[tuple[int, int]]:
    """Returns the shapes of the kernels if all layers are dense, else none."""
    if any(type(layer).__name__ != "Dense" for layer in model.layers):
        return []
    return [tuple(layer.kernel.shape) for layer in model.layers]


def operations(shapes: Iterable[tuple[int, int]], members: int, batch: int) -> int:
    """Returns the operations of a step; the first layer needs no gradient of its input."""
    first, *rest = (2 * members * batch * math.prod(shape) for shape in shapes)
    return 2 * first + 3 * sum(rest)


def seconds(model: Any, members: int, batch: int) -> float:
    """Returns the median seconds of the products of one step, in the faster form."""
    forms: dict[str, list[int]] = {"operations": []}
    if keras.backend.backend() == "tensorflow":
        forms["XLA"] = [batch]
    indices = np.arange(STEPS * batch, dtype="int32").reshape(STEPS, batch)
    with loops.threads() as pool:
        calls = {
            name: partial(_loop(model, members, batch, clusters), indices, pool)
            for name, clusters in forms.items()
        }
        timings = paired_calls(calls, ROUNDS)
    return min(map(timings.median, forms)) / STEPS


def gradients(x: Any, kernels: Sequence[Any]) -> list[Any]:
    """Returns the gradients of `sum(y ** 2) / 2` for all kernels, the last kernel's first."""
    inputs = [x]
    for kernel in kernels:
        inputs.append(ops.matmul(inputs[-1], kernel))
    error, results = inputs[-1], []
    for number in reversed(range(len(kernels))):
        results.append(ops.matmul(ops.swapaxes(inputs[number], 1, 2), error))
        if number > 0:
            error = ops.matmul(error, ops.swapaxes(kernels[number], 1, 2))
    return results


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
        products = gradients(
            vectorize.repeated(x, each), [ops.convert_to_tensor(k) for k in kernels[0]]
        )
        for variable, gradient in zip(grads[0], reversed(products), strict=True):
            variable.assign(gradient)

    x = normal(size=(STEPS * batch, shapes[0][1])).astype("float32")
    variables = [[*k, *g] for k, g in zip(kernels, grads, strict=True)]
    return loops.Loop(step, variables, x, np.zeros(len(x)), clusters=clusters)
