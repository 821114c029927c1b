"""Which runs are the same: the hash of what changes their result. And who is at work on one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from experiments.naming import component

# Where a run is recorded and what it shows does not change what it computes.
NEUTRAL = ("tracking.", "training.progress", "rerun")


def config_hash(flat: Mapping[str, Any]) -> str:
    """Sixteen hex digits of a flattened, resolved config, what is neutral left out."""
    told = {k: v for k, v in flat.items() if not k.startswith(NEUTRAL)}
    told["backend"] = told.get("backend") or os.environ.get("KERAS_BACKEND") or "tensorflow"
    if told.get("regularization.name") == "none":
        told["regularization.lam"] = 0.0  # which nothing reads
    text = json.dumps(told, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Busy(Exception):
    """Another process is at work on it."""


@contextmanager
def claim(folder: Path, name: str, patience: float = 1.0) -> Iterator[bool]:
    """Holds `name` for this process; the operating system lets go of it when the process dies.

    The file of a process that died stays, that of one that ended does not.

    Yields:
        Whether a process on these disks has died that held it.

    Raises:
        Busy: another process holds it, longer than `is_claimed` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, died = FileLock(_path(folder, name)), _path(folder, name).exists()
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise Busy(name) from None
    try:
        yield died
    finally:
        _path(folder, name).unlink(missing_ok=True)
        lock.release()


def is_claimed(folder: Path, name: str) -> bool | None:
    """Whether a living process holds `name`; None where no process on these disks does or died."""
    if not _path(folder, name).exists():
        return None
    lock = FileLock(_path(folder, name))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _path(folder: Path, name: str) -> Path:
    return folder / f"{component(name)}.lock"
