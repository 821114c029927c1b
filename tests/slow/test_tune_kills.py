"""A study whose process is killed."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from l2keras_experiments.config import paths
from l2keras_experiments.tuning import search
from tests.support.runs import Compose
from tests.support.tuned import run_tune


def test_sigkill_and_sigterm(composed: Compose, tmp_path: Path) -> None:
    """Killed by SIGKILL, then by SIGTERM, then left alone, a study ends whole and consistent."""
    command = [
        "training.epochs=10",
        "model.width=8",
        "tune.num_trials=6",
        "tune.preset=tuned_kill_test",
    ]
    uri = f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"
    for number, started in ((signal.SIGKILL, 1), (signal.SIGTERM, 3)):
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.tune", uri, f"hydra.run.dir={tmp_path}", *command],
            cwd=paths.PROJECT, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_for(process, f"{started}/6 ")
        time.sleep(0.3)
        os.kill(process.pid, number)
        process.communicate(timeout=60)
        assert process.returncode != 0
    tuned = run_tune(composed, tmp_path, uri, *command)
    states = [trial.state for trial in tuned.trials]
    assert search.num_done(tuned.trials) == 6
    assert set(states) <= {"complete", "pruned", "killed"}
    assert states.count("killed") == 2
    assert tuned.parent.info.status == "FINISHED"
    for run, state in zip(tuned.children, states, strict=True):
        assert run.info.status == ("KILLED" if state == "killed" else "FINISHED")
    assert all(math.isfinite(trial.value) for trial in tuned.trials if trial.state != "killed")


def wait_for(process: subprocess.Popen[str], beginning: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(beginning):
            return
    pytest.fail(f"the command ended with {process.wait()}")
