"""Which runs are the same: the hash of what changes their result. And who is at work on one."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from l2keras_experiments.config import targets
from l2keras_experiments.config.schema import Config, ConfigError
from l2keras_experiments.runtime.naming import component

# Where a run is recorded and what it shows does not change what it computes.
NEUTRAL = ("tracking.", "training.progress", "rerun")
# Where files are read. A callback's are left out: most callbacks write theirs.
_READING = ("data.", "model.", "optimizer.", "regularization.", "training.loss", "training.metrics")


def config_hash(flat: Mapping[str, Any]) -> str:
    """Sixteen hex digits of a flattened, resolved config, what is neutral left out.

    The source of the targets' modules counts, and of files the bytes, not the name.
    """
    counted = {k: v for k, v in flat.items() if not k.startswith(NEUTRAL)}
    counted = {k: _content(v) if k.startswith(_READING) else v for k, v in counted.items()}
    counted["backend"] = flat.get("backend") or os.environ.get("KERAS_BACKEND") or "tensorflow"
    if flat.get("regularization.name") == "none":
        counted["regularization.lam"] = 0.0  # which nothing reads
    counted["sources"] = targets.source_hash(flat)
    text = json.dumps(counted, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_as_planned(config: Config, told: str) -> bool:
    """Whether a run, by its hash `told`, is what its sweep has planned; true for one alone."""
    return config.tracking.planned in (None, told)


def check_planned(config: Config, told: str) -> None:
    """Raises ConfigError unless a run is as planned.

    Python does not load an edited module again: the run would be recorded as what it is not.
    """
    if not is_as_planned(config, told):
        raise ConfigError(
            "The modules and files of a run must stay as they were when its sweep began. Received: "
            "others, edited since. Start the sweep again."
        )


def _content(value: Any) -> Any:
    """A value with the digest of each file that it names in the place of the path."""
    if isinstance(value, Mapping):  # of patterns the first that matches counts
        return [[str(key), _content(one)] for key, one in value.items()]
    if isinstance(value, list | tuple):
        return [_content(one) for one in value]
    if not (isinstance(value, str) and os.path.isfile(value)):
        return value
    path = Path(value).resolve()
    status = path.stat()
    return _digest(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=256)
def _digest(path: Path, modified: int, size: int) -> str:
    """Of the bytes of a file, read again when its time or size has changed."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


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
