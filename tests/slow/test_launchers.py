"""Sweeps by launchers that take long to start, on another backend, and through Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import slurm
from tests.support.launches import (
    check_real_sweep,
    check_that_jobs_share_the_cores,
    sweep,
    write_down,
)
from tests.support.runs import Compose


def test_jobs_on_ray_share_the_cores(tmp_path: Path) -> None:
    """Jobs run in processes of their own, no more at once than cores, each with one thread."""
    check_that_jobs_share_the_cores("ray", tmp_path)


def test_a_killed_job_ends_alone(tmp_path: Path) -> None:
    """Under submitit a job that is killed takes no other with it."""
    written = write_down("submitit_local", tmp_path, "seed=0,1,2,3", "tracking.study=deadly")
    assert sorted(written) == [0, 2, 3]


@pytest.mark.parametrize("launcher", ["submitit_local", "ray"])
def test_a_real_sweep(composed: Compose, launcher: str, tmp_path: Path) -> None:
    """Workers that meet no store yet record every run, with the numbers of a run in one process."""
    check_real_sweep(launcher, composed, tmp_path)


def test_isolated_jobs_on_another_backend(tmp_path: Path) -> None:
    """What the jobs are forked from has not loaded TensorFlow where they are to run on JAX."""
    runs = sweep("isolated", f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path, "backend=jax")
    assert [found.info.status for found in runs] == ["FINISHED"] * 2
    assert {found.data.params["running_backend"] for found in runs} == {"jax"}


def test_a_sweep_through_slurms_commands(tmp_path: Path) -> None:
    """What submitit hands to Slurm runs: the script and its pickles, by stand-ins for Slurm."""
    path = slurm.stand_ins(tmp_path / "bin", runs=True)
    uri = f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}"
    runs = sweep("submitit_slurm", uri, tmp_path, PATH=path)
    assert [found.info.status for found in runs] == ["FINISHED"] * 2
