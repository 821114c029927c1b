"""Where a run comes from: commit, command, machine; asked of git once in a process."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import subprocess
import sys

from experiments import credentials
from experiments.paths import PROJECT


def tags() -> dict[str, str]:
    """Commit of the checkout and whether its tree was dirty ("unknown" outside git), the command.

    The keys with "mlflow." are what MLflow's own columns show.
    """
    commit, dirty = _commit()
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "host": platform.node(),
        "pid": str(os.getpid()),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": command(),
        "mlflow.source.git.commit": commit,
    }


def command() -> str:
    """The command of this process, as typed but for passwords and tokens."""
    return shlex.join(["python", *credentials.masked_words(sys.orig_argv[1:])])


@functools.cache
def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    import importlib.metadata
    import platform

    import keras

    backend = keras.backend.backend()
    names = ["l2keras", "keras", "numpy", backend]
    found = {}
    for name in names:
        try:
            found[f"version.{name}"] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[f"version.{name}"] = "not installed as a package"
    return {**found, "version.python": platform.python_version(), "running_backend": backend}


@functools.cache
def _commit() -> tuple[str, str]:
    commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return commit or "unknown", "unknown" if status is None else str(bool(status)).lower()


def _git(*arguments: str) -> str | None:
    line = ["git", "-C", str(PROJECT), *arguments]
    try:
        result = subprocess.run(line, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
