"""How many members are trained at once: as many as fit, and no more than pays."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from l2keras._keras.optimizers import config_with
from l2keras._keras.rehearsal import rehearsal
from l2keras._keras.variables import sublayers

MOST = 32  # of a small MLP on two cores it took no less a member than 8 did
MOST_ON_GPU = 1000
UNTOLD = 4 * 2**30  # bytes that members may take where nothing tells what is free

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def group_size(num_members: int, bytes_per_member: int, budget: int, most: int) -> int:
    """Members in a group, all groups of (nearly) one size; at least 1."""
    fit = max(1, min(most, budget // max(1, bytes_per_member)))
    groups = math.ceil(num_members / fit)
    return math.ceil(num_members / groups)


def default_budget() -> int:
    """Half of the memory that is free now, in bytes; of the GPU where the backend has one.

    `UNTOLD` where that is not known.
    """
    free = _free_gpu_memory() if on_gpu() else _free_memory()
    return UNTOLD if free is None else int(free // 2)


def _free_memory() -> int | None:
    """Of the computer; no more than a container may still take."""
    known = [free for free in (_available(), _left_in_container()) if free is not None]
    return max(0, min(known)) if known else None


def _available() -> int | None:
    """What programs can take, the cache of files among it, where the system tells."""
    if _MEMINFO.exists():
        return 1024 * _numbers(_MEMINFO).get("MemAvailable:", 0) or None
    try:  # macOS has no such name, Windows no sysconf
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _left_in_container() -> int | None:
    """What the limit of a control group (version 2) leaves; None without a limit."""
    try:
        limit, used = ((_CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        cache = _numbers(_CGROUP / "memory.stat").get("inactive_file", 0)  # given back on demand
    except OSError:
        return None
    return int(limit) - int(used) + cache if limit.strip().isdigit() else None


def _numbers(file: Path) -> dict[str, int]:
    """The first number of each line by the first word."""
    return {words[0]: int(words[1]) for words in map(str.split, file.read_text().splitlines())}


def _free_gpu_memory() -> int | None:
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    if backend == "jax":
        import jax

        stats = jax.local_devices()[0].memory_stats() or {}
        limit = stats.get("bytes_limit")
        return None if limit is None else int(limit - stats.get("bytes_in_use", 0))
    return None  # TensorFlow does not tell what is free


def cores() -> int:
    """How many this process may use, of the computer and of its control group (version 2)."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    mine = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
    except OSError:
        return mine
    return min(mine, math.ceil(int(quota) / int(period))) if quota.isdigit() else mine


def on_gpu() -> bool:
    """Whether the backend computes on a GPU."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return bool(torch.cuda.is_available())
    if backend == "jax":
        import jax

        return bool(jax.default_backend() != "cpu")
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


def bytes_per_member(model: Any, optimizer: Any, batch_size: int) -> int:
    """An estimate: weights, gradients, the optimizer's slots, activations and their gradients.

    Args:
        model: Built.
        optimizer: It is not built here, a copy of it is.
        batch_size: Examples in a step.
    """
    weights = sum(_bytes(variable.shape, variable.dtype) for variable in model.variables)
    slots = _slots(optimizer, model.trainable_variables)
    layers = [layer for layer in sublayers(model) if layer is not model]
    activations = sum(
        _bytes((batch_size, *shape), layer.compute_dtype)
        for layer in layers
        for shape in _output_shapes(layer)
    )
    # A step holds weights, gradients and new weights; the slots before and after it; outputs, their
    # gradients and a temporary. Beside it stand, as arrays, the member's state and fresh slots.
    return 4 * weights + 4 * slots + 3 * activations


def _slots(optimizer: Any, variables: Sequence[Any]) -> int:
    """The bytes that the optimizer keeps for these variables."""
    twin = type(optimizer).from_config(config_with(optimizer, 0.0))
    with rehearsal(with_arrays=True):
        twin.build(variables)
    return sum(_bytes(v.shape, v.dtype) for v in twin.variables)


def _output_shapes(layer: Any) -> list[tuple[int, ...]]:
    try:
        outputs = keras.tree.flatten(layer.output)
    except (AttributeError, ValueError):  # not part of a graph of layers, or not called yet
        return []
    return [tuple(int(size or 1) for size in output.shape[1:]) for output in outputs]


def _bytes(shape: Sequence[int], dtype: Any) -> int:
    name = keras.backend.standardize_dtype(dtype)
    width = 8 if name.endswith("64") else 2 if name.endswith("16") else 4
    return math.prod(shape) * width
