"""Sweeps on several cores: what the launchers of configs/hydra/launcher do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.launches import check_real_sweep, check_that_jobs_share_the_cores, write_down
from tests.support.runs import Compose


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_jobs_share_the_cores(launcher: str, tmp_path: Path) -> None:
    """Jobs run in processes of their own, no more at once than cores, each with one thread."""
    check_that_jobs_share_the_cores(launcher, tmp_path)


def test_more_threads_for_each_run(tmp_path: Path) -> None:
    """One key gives every backend the threads, and submitit as many fewer runs at once."""
    cores = len(os.sched_getaffinity(0))
    overrides = ["seed=0,1", f"hydra.launcher.cpus_per_task={cores}"]
    first, second = write_down("submitit_local", tmp_path, *overrides).values()
    assert first["threads"] == second["threads"] == [str(cores)] * 4
    assert first["end"] <= second["start"] or second["end"] <= first["start"]


def test_a_real_sweep(composed: Compose, tmp_path: Path) -> None:
    """Workers that meet no store yet record every run, with the numbers of a run in one process."""
    check_real_sweep("joblib", composed, tmp_path)
