"""Commands in this process, through the entry point that the shell has: status and output."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from l2keras_experiments.commands import command_line
from l2keras_experiments.config import paths
from l2keras_experiments.console import main as console
from l2keras_experiments.runtime import boundary

HYDRA = ("train", "compare", "tune")
OTHERS = ("report", "upload", "check_grad", "ui")
# What Hydra's configure_log calls; Hydra 1.3.2 has no such module.
_LOGGING = "hydra._internal.logging_config"
CONFIGURES_LOGGING = (
    f"{_LOGGING}.configure_logging" if find_spec(_LOGGING) else "logging.config.dictConfig"
)


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str


def entry(command: str) -> Callable[[], Any]:
    """What `python -m experiments.<command>` runs inside of the boundary."""
    module, _ = console.EXPERIMENTS[command.replace("_", "-")]
    main: Callable[[], Any] = importlib.import_module(f"l2keras_experiments.{module}").main
    return main


def answer(command: str, arguments: Sequence[str]) -> Answer:
    """Runs a command here; what it puts into the environment is gone afterwards."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, [f"experiments/{command}.py", *arguments]
    try:
        with (
            mock.patch.dict(os.environ),
            _fresh_hydra(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            status = boundary.status(entry(command))
    finally:
        sys.argv = before
    return Answer(status, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _fresh_hydra() -> Iterator[None]:
    """The composer of the fixture `composed` stays as it is, and so does pytest's logging."""
    of_tests, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    try:
        # Of Hydra and of our launchers: it would close the stderr of pytest.
        with mock.patch(CONFIGURES_LOGGING):
            yield
    finally:
        GlobalHydra.instance().hydra = of_tests
        HydraConfig.instance().cfg = config


def contained(patch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Has commands write below `folder` and launch nothing; returns where runs would go."""
    from l2keras_experiments.sweeps.sweep import Sweep

    runs = folder / "runs"
    for module in (paths, command_line):
        patch.setattr(module, "RUNS", runs)
    patch.setattr(Sweep, "run", lambda self: False)
    patch.setattr(os, "execv", lambda *command: None)
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{runs / 'mlflow.db'}")
    patch.delenv("NOPE", raising=False)
    return runs


def check_mistake(given: Answer, runs: Path) -> None:
    """Asserts that a mistake is one line, has status 2 and leaves no file."""
    assert given.status == 2, given
    assert given.err.count("\n") == 1, given
    assert given.err.startswith("error: "), given
    assert "Traceback" not in given.err, given
    assert len(given.err) < 2000, given
    assert not runs.exists()
