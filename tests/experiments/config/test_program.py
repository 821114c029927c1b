"""How messages call the commands, in a checkout and in an installed package."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from l2keras_experiments.config import paths, program
from l2keras_experiments.tracking import provenance
from l2keras_experiments.tracking.store import ui_command
from l2keras_experiments.tuning import presets


@pytest.fixture(autouse=True)
def _from_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(paths.CONSOLE_VARIABLE, raising=False)


def test_a_checkout_runs_modules() -> None:
    """There the commands are modules of `experiments`; arguments are quoted."""
    assert not paths.INSTALLED
    assert program.command("train", "seed=range(2)") == (
        "python -m experiments.train 'seed=range(2)'"
    )
    assert program.install("cluster") == "pip install --editable '.[cluster]'"
    python = shlex.quote(sys.executable)
    assert ui_command("sqlite:////x y.db") == (
        f"MLFLOW_TRACKING_URI='sqlite:////x y.db' {python} -m experiments.ui"
    )


def test_the_console_command_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process that `l2keras` started, and in its children, messages say `l2keras`."""
    monkeypatch.setenv(paths.CONSOLE_VARIABLE, "/work")
    assert program.command("check_grad") == "l2keras check-grad"
    assert ui_command("sqlite:////x/y.db") == "MLFLOW_TRACKING_URI=sqlite:////x/y.db l2keras ui"


@pytest.mark.parametrize("way", ["console", "child", "module"])
def test_the_console_command_writes_to_the_working_directory(way: str, tmp_path: Path) -> None:
    """From a checkout too, where the modules of `experiments` write to that of the checkout."""
    enter = "program.enter_console()" if way == "console" else "pass"
    code = f"""from l2keras_experiments.config import program; {enter}
from l2keras_experiments.config.paths import RUNS; print(RUNS)"""
    environment = {**os.environ, "PYTHONPATH": str(paths.PROJECT)}
    cwd = tmp_path
    if way == "child":  # of a launcher, which may work elsewhere
        environment[paths.CONSOLE_VARIABLE], cwd = str(tmp_path), tmp_path.parent
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    folder = paths.PROJECT if way == "module" else tmp_path
    assert done.stdout.strip() == str(folder / "runs"), done.stderr


def test_an_installed_package_has_the_console_command_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Presets go to conf/ of the working directory, where the printed command finds them."""
    monkeypatch.setattr(paths, "INSTALLED", True)
    monkeypatch.setattr(paths, "WORK", tmp_path)
    monkeypatch.setattr(presets, "_own_folders", list)
    assert program.command("train") == "l2keras train"
    assert program.install("cluster") == "pip install 'l2keras[cluster]'"
    assert presets.folder() == tmp_path / "conf" / "experiment"


@pytest.mark.parametrize(
    ("started", "typed"),
    [
        (["python3", "-m", "experiments.train", "seed=1"], "python -m experiments.train seed=1"),
        (["python3", "/a/bin/l2keras", "train", "seed=1"], "l2keras train seed=1"),
    ],
)
def test_a_run_keeps_the_command_that_was_typed(
    started: list[str], typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter and the path of the console command are left out."""
    monkeypatch.setattr(sys, "orig_argv", started)
    assert provenance.command() == typed
