"""A sweep one of whose jobs is killed: nothing is lost, nothing done twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from l2keras_experiments.tracking.store import Store
from tests.support.sweep_processes import check_complete, launch, trials, wait_for_training


def test_a_killed_job_does_not_stop_the_others(missing_uri: str, tmp_path: Path) -> None:
    """Isolated jobs, two at once: one gets SIGKILL, the others finish, the same command mends it.

    The two meet a store that the sweep has just created.
    """
    sweep = ["seed=0,1,2", "hydra/launcher=isolated", "hydra.launcher.n_jobs=2"]
    process = launch(missing_uri, tmp_path / "sweep", *sweep)
    store = Store(missing_uri, "l2keras")
    wait_for_training(process, store)
    [victim, *_] = [run for run in trials(store) if run.info.status == "RUNNING"]
    os.kill(int(victim.data.tags["pid"]), signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1, output
    assert "2 of 3 runs finished" in output
    label = victim.data.tags["label"]
    assert f"{label}: FAILED DiedError: its process was killed by SIGKILL" in output
    process = launch(missing_uri, tmp_path / "sweep", *sweep)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    check_complete(store, 3)
