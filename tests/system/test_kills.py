"""Sweeps that are killed, again and again, at any instant: nothing is lost, nothing done twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from experiments import paths
from experiments.tracking import Store
from tests.support.runs import runs_of

EPOCHS = 150  # some seconds


def launch(uri: str, folder: Path, *more: str, epochs: int = EPOCHS) -> subprocess.Popen[str]:
    """A sweep in a process group of its own, so that all of it can be killed."""
    arguments = [
        "-m", f"training.epochs={epochs}", "data.num_train=200", "model.width=8",
        "tracking.log_model=false", f"tracking.uri={uri}", f"hydra.sweep.dir={folder}", *more,
    ]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.train", *arguments],
        cwd=paths.PROJECT, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def trials(store: Store) -> list[Any]:
    return [run for run in runs_of(store) if run.data.tags["kind"] == "trial"]


def check_complete(store: Store, count: int, epochs: int = EPOCHS) -> None:
    """`count` FINISHED runs, one for each config, each with every epoch exactly once."""
    found = trials(store)
    assert [run.info.status for run in found] == ["FINISHED"] * count
    assert len({run.data.tags["config_hash"] for run in found}) == count
    for run in found:
        for key in ("loss", "val_data_loss", "weight_norm"):
            history = store.client.get_metric_history(run.info.run_id, key)
            assert sorted(metric.step for metric in history) == list(range(epochs)), key


def wait_for_training(process: subprocess.Popen[str], store: Store) -> None:
    """Returns when a living process is at work on a run, or the sweep is over."""
    while process.poll() is None:
        running = [run for run in trials(store) if run.info.status == "RUNNING"]
        if any(Path("/proc", run.data.tags["pid"]).exists() for run in running):
            return
        time.sleep(0.1)


def test_a_killed_job_does_not_stop_the_others(uri: str, tmp_path: Path) -> None:
    """Isolated jobs, two at once: one gets SIGKILL, the others finish, the same command mends it.

    The two meet a store that the sweep has just created.
    """
    sweep = ["seed=0,1,2", "hydra/launcher=isolated", "hydra.launcher.n_jobs=2"]
    process = launch(uri, tmp_path / "sweep", *sweep)
    store = Store(uri, "l2keras")
    wait_for_training(process, store)
    [victim, *_] = [run for run in trials(store) if run.info.status == "RUNNING"]
    os.kill(int(victim.data.tags["pid"]), signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1, output
    assert "2 of 3 runs finished" in output
    label = victim.info.run_name
    assert f"{label}: FAILED DiedError: its process was killed by SIGKILL" in output
    process = launch(uri, tmp_path / "sweep", *sweep)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    check_complete(store, 3)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "isolated"])
def test_fifty_kills(uri: str, tmp_path: Path, launcher: str) -> None:
    """A 20-run sweep that is killed at 25 random instants, twice, ends with 20 whole runs.

    A kill comes up to 4 s after a run has begun, or, one in five, anywhere in the start.
    """
    sweep = ["regularization=half_l2,decoupled", "seed=range(10)", f"hydra/launcher={launcher}"]
    chance = random.Random(launcher)
    store = Store(uri, "l2keras")
    kills, epochs = 0, 3 * EPOCHS  # more training than there is time for between 25 kills
    while kills < 25:
        process = launch(uri, tmp_path / "sweep", *sweep, epochs=epochs)
        if chance.random() < 0.2:
            time.sleep(chance.uniform(0.0, 15.0))
        else:
            wait_for_training(process, store)
            time.sleep(chance.uniform(0.0, 4.0))
        assert process.poll() is None, f"over after {kills} kills: {process.communicate()[0]}"
        kills += 1
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, f"after {kills} kills: {output}"
    process = launch(uri, tmp_path / "sweep", *sweep, epochs=epochs)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    check_complete(store, 20, epochs)
