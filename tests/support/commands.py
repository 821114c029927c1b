"""Commands in this process, through the entry point that the shell has: status and output."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from experiments import boundary, cli, paths
from experiments.schema import CompareConfig, Config, TuneConfig

HYDRA = ("train", "compare", "tune")
OTHERS = ("report", "upload", "check_grad", "ui")


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str


def entry(command: str) -> Callable[[], Any]:
    """What `python -m experiments.<command>` runs inside of the boundary."""
    from experiments import (
        check_grad,
        compare,
        comparison,
        presets,
        report,
        train,
        tune,
        tuning,
        upload,
    )
    from experiments import ui as ui_command

    others = {"report": report.main, "upload": upload.main, "check_grad": check_grad.main,
              "ui": ui_command.main}  # fmt: skip
    if command in others:
        return others[command]
    if command == "train":
        return lambda: cli.launch(train._main, Config, "train")
    if command == "compare":
        check = comparison.check_comparison
        return lambda: cli.launch(compare._main, CompareConfig, "compare", check)
    checks = tuning.check_tuning, presets.check_preset
    return lambda: cli.launch(tune._main, TuneConfig, "tune", *checks)


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
        with (
            mock.patch("hydra.core.utils.configure_log"),
            mock.patch("hydra._internal.hydra.configure_log"),
        ):
            yield
    finally:
        GlobalHydra.instance().hydra = of_tests
        HydraConfig.instance().cfg = config


def contained(patch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Has commands write below `folder` and launch nothing; returns where runs would go."""
    from experiments.sweep import Sweep

    runs = folder / "runs"
    for module in (paths, cli):
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
