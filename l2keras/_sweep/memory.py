"""How many members are trained at once: as many as fit, and no more than pays."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import keras

MOST = 32  # more gain nothing on a CPU


def group_size(num_members: int, bytes_per_member: int, budget: int, most: int) -> int:
    """Members in a group, all groups of (nearly) one size; at least 1."""
    fit = max(1, min(most, budget // max(1, bytes_per_member)))
    groups = math.ceil(num_members / fit)
    return math.ceil(num_members / groups)


def default_budget() -> int:
    """Half of the memory that is free now, in bytes; of the GPU where the backend has one."""
    free = _free_gpu_memory()
    if free is None:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(free // 2)


def _free_gpu_memory() -> int | None:
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None
    if backend == "jax":
        import jax

        stats = jax.local_devices()[0].memory_stats() or {}
        limit = stats.get("bytes_limit")
        return None if limit is None else int(limit - stats.get("bytes_in_use", 0))
    return None  # TensorFlow does not tell what is free


def on_gpu() -> bool:
    """Whether the backend computes on a GPU."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return bool(torch.cuda.is_available())
    if backend == "jax":
        import jax

        return jax.default_backend() != "cpu"
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


def bytes_per_member(model: Any, optimizer: Any, batch_size: int) -> int:
    """An estimate: weights, gradients, the optimizer's slots, activations and their gradients."""
    weights = sum(_bytes(v.shape, v.dtype) for v in model.variables)
    slots = max(1, len(optimizer.variables) // max(1, len(model.trainable_variables)))
    activations = sum(
        _bytes((batch_size, *_without_batch(layer)), "float32") for layer in _layers(model)
    )
    return int(weights * (3 + slots) + 3 * activations)


def _layers(model: Any) -> Sequence[Any]:
    return [layer for layer in model._flatten_layers(include_self=False)]


def _without_batch(layer: Any) -> tuple[int, ...]:
    try:
        shape = keras.tree.flatten(layer.output)[0].shape
    except (AttributeError, ValueError):  # not part of a graph of layers, or not called yet
        return (0,)
    return tuple(int(size or 1) for size in shape[1:])


def _bytes(shape: Sequence[int], dtype: Any) -> int:
    width = 8 if "64" in str(dtype) else 4
    return math.prod(shape) * width
