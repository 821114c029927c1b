"""Where a run comes from: commit, command, machine; asked of git once in a process."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from l2keras_experiments.config import credentials, program
from l2keras_experiments.config.paths import WORK

COMMAND_TAG = "command"


def tags() -> dict[str, str]:
    """Commit and whether the tree was dirty ("unknown" outside git), the command.

    The commit is that of the checkout; of the working directory where the package is installed.

    The keys with "mlflow." are what MLflow's own columns show.
    """
    commit, dirty = _commit()
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "host": platform.node(),
        "pid": str(os.getpid()),
        "mlflow.source.type": "LOCAL",
        COMMAND_TAG: command(),
        "mlflow.source.name": source(),
        "mlflow.source.git.commit": commit,
    }


def command() -> str:
    """The command of this process, as typed but for passwords and tokens."""
    return shlex.join(program.typed(credentials.masked_words(sys.orig_argv[1:])))


def source() -> str:
    """The module or script of this process, or that of the Hydra job which it works on."""
    from hydra.core.hydra_config import HydraConfig

    module = _module(sys.orig_argv[1:])
    if module is not None and module.partition(".")[0] not in _LAUNCHERS:
        return module
    if HydraConfig.initialized():  # in a process of a launcher
        return f"experiments.{HydraConfig.get().job.name.rpartition('.')[2]}"
    return Path(sys.argv[0]).name or "python"


# Packages whose modules run a job of another command.
_LAUNCHERS = ("hydra_plugins", "joblib", "loky", "multiprocessing", "pytest", "ray", "submitit")


def _module(words: Sequence[str]) -> str | None:
    """What the interpreter's own option -m names among its arguments."""
    left = iter(words)
    for word in left:
        if word == "-m":
            return next(left, None)
        if word in ("-X", "-W"):
            next(left, None)
        elif word == "-c" or not word.startswith("-"):
            return None
    return None


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
    line = ["git", "-C", str(WORK), *arguments]
    try:
        result = subprocess.run(line, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
