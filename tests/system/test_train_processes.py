"""The training command in processes: a sweep, and a run that SIGTERM ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from l2keras_experiments.config import paths
from l2keras_experiments.tracking.store import Store
from tests.support.runs import runs_of


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "experiments.train", *arguments]
    return subprocess.Popen(
        command, cwd=paths.PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_a_multirun_then_sigterm(missing_uri: str, tmp_path: Path) -> None:
    """A sweep trains every job; SIGTERM in mid fit leaves a KILLED run with its metrics."""
    jobs = start(
        "-m", "regularization=half_l2,decoupled", "training.epochs=2", "model.width=8",
        f"tracking.uri={missing_uri}", f"hydra.sweep.dir={tmp_path / 'sweep'}",
    )  # fmt: skip
    output, _ = jobs.communicate(timeout=300)
    assert jobs.returncode == 0, output
    assert "2 of 2 runs finished" in output
    store = Store(missing_uri, "l2keras")
    [parent] = [run for run in runs_of(store) if run.data.tags["kind"] == "sweep"]
    children = runs_of(store, parent)
    names = sorted(run.data.params["regularization.name"] for run in children)
    assert names == ["decoupled", "half_l2"]

    endless = start("training.epochs=1000000", f"tracking.uri={missing_uri}",
                    f"hydra.run.dir={tmp_path}")  # fmt: skip
    try:
        run_id = wait_for_metrics(store)
        os.kill(endless.pid, signal.SIGTERM)
        output, _ = endless.communicate(timeout=120)
    finally:
        endless.kill()
    assert endless.returncode == 128 + signal.SIGTERM
    run = store.client.get_run(run_id)
    assert run.info.status == "KILLED", output
    assert len(store.client.get_metric_history(run.info.run_id, "val_data_loss")) >= 1


def wait_for_metrics(store: Store) -> str:
    """Returns the id of the newest run once it is RUNNING and has the metrics of an epoch."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        newest = runs_of(store)[0]
        if newest.info.status == "RUNNING" and "val_data_loss" in newest.data.metrics:
            return str(newest.info.run_id)
        time.sleep(0.2)
    pytest.fail("no run has metrics after 240 s")
