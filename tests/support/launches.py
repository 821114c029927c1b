"""Sweeps by a launcher of configs/hydra/launcher, in processes of their own."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from l2keras_experiments.config import paths
from l2keras_experiments.tracking.store import Store
from tests.support.runs import SMALL, Compose, runs_of

THREADS = ["OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC"]
# A sweep whose jobs only write down when and how they ran; the one with seed=1 may die.
# A job waits until as many processes as PROCESSES says have begun one.
PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path
import hydra
from l2keras_experiments.commands import command_line
from l2keras_experiments.config import paths
from l2keras_experiments.config.schema import Config

@hydra.main(version_base="1.3", config_path=str(paths.CONFIGS), config_name="config")
def main(node):
    if node.tracking.study == "deadly" and node.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    start, folder = time.time(), Path(node.tracking.uri)
    (folder / f"{os.getpid()}.pid").touch()
    while len(list(folder.glob("*.pid"))) < int(os.environ["PROCESSES"]):
        assert time.time() < start + 120, "no other job has a process of its own"
        time.sleep(0.05)
    time.sleep(0.5)
    seen = {"pid": os.getpid(), "start": start, "end": time.time()}
    seen["threads"] = [os.environ[name] for name in os.environ["THREADS"].split()]
    (folder / f"{node.seed}.json").write_text(json.dumps(seen))

command_line.register("train", Config, "experiments.train")
main()
"""


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python without the threads that conftest.py sets: they are the launcher's."""
    inherited = {name: value for name, value in os.environ.items() if name not in THREADS}
    # Without a token of our own ray writes one into the home folder.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return subprocess.run(
        [sys.executable, *command],
        cwd=paths.PROJECT,
        env={**inherited, **token, **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )


def write_down(launcher: str, folder: Path, *overrides: str, processes: int = 1) -> dict[int, Any]:
    """What the jobs of PROGRAM wrote, by seed."""
    result = run(
        "-c", PROGRAM, "-m", f"hydra/launcher={launcher}", "hydra/sweeper=basic",
        f"tracking.uri={folder}", f"hydra.sweep.dir={folder / 'sweep'}", *overrides,
        PROCESSES=str(processes), THREADS=" ".join(THREADS),
    )  # fmt: skip
    written = {int(path.stem): json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert written, result.stderr[-3000:]
    return written


def check_that_jobs_share_the_cores(launcher: str, folder: Path) -> None:
    """Asserts that jobs run in their own processes, at most one a core, each with one thread."""
    cores = len(os.sched_getaffinity(0))
    written = write_down(launcher, folder, "seed=0,1,2,3,4", processes=min(cores, 2))
    assert sorted(written) == [0, 1, 2, 3, 4]
    assert len({job["pid"] for job in written.values()} - {os.getpid()}) >= min(cores, 2)
    assert all(job["threads"] == ["1"] * 4 for job in written.values())
    for job in written.values():
        meets = [o for o in written.values() if o["start"] <= job["start"] < o["end"]]
        assert len(meets) <= cores


def sweep(launcher: str, uri: str, folder: Path, *overrides: str, **environment: str) -> list[Any]:
    """The runs of a real sweep over two seeds, by seed."""
    result = run(
        "-m", "experiments.train", "-m", f"hydra/launcher={launcher}", "seed=0,1",
        "tracking.log_model=false", f"tracking.uri={uri}", f"hydra.sweep.dir={folder / 'sweep'}",
        *SMALL, *overrides, **environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-3000:]
    runs = [found for found in runs_of(Store(uri, "l2keras")) if "lambda" in found.data.params]
    return sorted(runs, key=lambda found: str(found.data.params["seed"]))


def check_real_sweep(launcher: str, composed: Compose, folder: Path) -> None:
    """Asserts that workers that meet no store yet record the numbers of a run in one process."""
    from l2keras_experiments.sweeps import job

    runs = sweep(launcher, f"sqlite:///{folder / 'store' / 'mlflow.db'}", folder)
    assert [found.info.status for found in runs] == ["FINISHED"] * 2
    here = f"sqlite:///{folder / 'here' / 'mlflow.db'}"
    job.train(composed("config", "seed=1", f"tracking.uri={here}", *SMALL))
    [expected] = runs_of(Store(here, "l2keras"))
    for key, value in expected.data.metrics.items():
        if key != "seconds":
            assert runs[1].data.metrics[key] == pytest.approx(value, rel=1e-5), key
