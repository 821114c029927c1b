"""Sweeps in processes of their own, and what a killed one must leave in the store."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from l2keras_experiments.config import paths
from l2keras_experiments.tracking.store import Store
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
