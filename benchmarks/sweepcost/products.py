"""The matrix products of a stacked step, alone: the least time that a sweep of dense layers takes.

A linear model: forward, to the inputs of its layers, and to its kernels; nothing else. Of a loop of
operations and of one program that is compiled as a whole, the faster one counts.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

CALLS = 40

Product = Callable[[Any, Sequence[Any]], list[Any]]


def kernels_of(model: Any) -> list[tuple[int, int]]:
    """The shapes of the kernels, where all layers are dense; else none."""
    if any(type(layer).__name__ != "Dense" for layer in model.layers):
        return []
    return [tuple(layer.kernel.shape) for layer in model.layers]


def operations(shapes: Iterable[tuple[int, int]], members: int, batch: int) -> int:
    """Floating-point operations of a step; the first layer needs no gradient of its input."""
    first, *rest = (2 * members * batch * math.prod(shape) for shape in shapes)
    return 2 * first + 3 * sum(rest)


def seconds(shapes: Sequence[tuple[int, int]], members: int, batch: int) -> float:
    """The products of one step: the median of `CALLS` calls of the faster form."""
    generator = np.random.default_rng(0)
    x = _tensor(generator, (members, batch, shapes[0][0]))
    kernels = [_tensor(generator, (members, *shape)) for shape in shapes]
    return min(_median(form, x, kernels) for form in _forms())


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


def _tensor(generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return ops.convert_to_tensor(generator.normal(size=shape).astype("float32"))


def _forms() -> list[Product]:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return [tf.function(gradients, jit_compile=jit, autograph=False) for jit in (False, True)]
    if backend == "jax":
        import jax

        return [jax.jit(gradients)]
    return [gradients]


def _median(form: Product, x: Any, kernels: Sequence[Any]) -> float:
    found = []
    for _ in range(CALLS):
        start = time.perf_counter()
        ops.convert_to_numpy(form(x, kernels)[-1])  # waits
        found.append(time.perf_counter() - start)
    return statistics.median(found)
