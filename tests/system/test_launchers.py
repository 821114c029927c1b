"""Sweeps on several cores and machines: what each launcher of configs/hydra/launcher does."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from experiments import cli, launchers, paths, train
from experiments.schema import Config, ConfigError
from experiments.signals import Terminated
from experiments.tracking import Store
from hydra_plugins.l2keras_sweeps import isolated
from tests.support import slurm
from tests.support.runs import SMALL, Compose, runs_of

# A sweep whose jobs only write down when and how they ran; the one with seed=1 may die.
PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path
import hydra
from experiments import cli, paths
from experiments.schema import Config

@hydra.main(version_base="1.3", config_path=str(paths.CONFIGS), config_name="config")
def main(node):
    if node.tracking.study == "deadly" and node.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    start = time.time()
    time.sleep(0.5)
    names = "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC"
    seen = {"pid": os.getpid(), "start": start, "end": time.time()}
    seen["threads"] = [os.environ[name] for name in names]
    Path(node.tracking.uri, f"{node.seed}.json").write_text(json.dumps(seen))

cli.register("train", Config, "experiments.train")
main()
"""
RAY = pytest.param("ray", marks=pytest.mark.slow)


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # Without a token of our own ray writes one into the home folder.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return subprocess.run(
        [sys.executable, *command],
        cwd=paths.PROJECT,
        env={**os.environ, **token, **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )


def write_down(launcher: str, folder: Path, *overrides: str) -> dict[int, Any]:
    """What the jobs of PROGRAM wrote, by seed."""
    result = run(
        "-c", PROGRAM, "-m", f"hydra/launcher={launcher}", "hydra/sweeper=basic",
        f"tracking.uri={folder}", f"hydra.sweep.dir={folder / 'sweep'}", *overrides,
    )  # fmt: skip
    written = {int(path.stem): json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert written, result.stderr[-3000:]
    return written


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", RAY])
def test_jobs_share_the_cores(launcher: str, tmp_path: Path) -> None:
    """Jobs run in processes of their own, no more at once than cores, each with one thread."""
    written = write_down(launcher, tmp_path, "seed=0,1,2,3,4")
    assert sorted(written) == [0, 1, 2, 3, 4]
    assert len({job["pid"] for job in written.values()} - {os.getpid()}) >= 2
    assert all(job["threads"] == ["1"] * 4 for job in written.values())
    for job in written.values():
        meets = [o for o in written.values() if o["start"] <= job["start"] < o["end"]]
        assert len(meets) <= len(os.sched_getaffinity(0))


def test_more_threads_for_each_run(tmp_path: Path) -> None:
    """One key gives every backend the threads, and submitit as many fewer runs at once."""
    cores = len(os.sched_getaffinity(0))
    overrides = ["seed=0,1", f"hydra.launcher.cpus_per_task={cores}"]
    first, second = write_down("submitit_local", tmp_path, *overrides).values()
    assert first["threads"] == second["threads"] == [str(cores)] * 4
    assert first["end"] <= second["start"] or second["end"] <= first["start"]


@pytest.mark.slow
def test_a_killed_job_ends_alone(tmp_path: Path) -> None:
    """Under submitit a job that is killed takes no other with it."""
    written = write_down("submitit_local", tmp_path, "seed=0,1,2,3", "tracking.study=deadly")
    assert sorted(written) == [0, 2, 3]


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


@pytest.mark.parametrize(
    "launcher", ["joblib", pytest.param("submitit_local", marks=pytest.mark.slow), RAY]
)
def test_a_real_sweep(composed: Compose, launcher: str, tmp_path: Path) -> None:
    """Workers that meet no store yet record every run, with the numbers of a run in one process."""
    runs = sweep(launcher, f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}", tmp_path)
    assert [found.info.status for found in runs] == ["FINISHED"] * 2
    here = f"sqlite:///{tmp_path / 'here' / 'mlflow.db'}"
    train.train(composed("config", "seed=1", f"tracking.uri={here}", *SMALL))
    [expected] = runs_of(Store(here, "l2keras"))
    for key, value in expected.data.metrics.items():
        if key != "seconds":
            assert runs[1].data.metrics[key] == pytest.approx(value, rel=1e-5), key


@pytest.mark.parametrize(("n_jobs", "at_once"), [(2, 2), (-1, os.cpu_count())])
def test_how_many_isolated_jobs_at_once(n_jobs: int, at_once: int) -> None:
    """As many as asked for; -1, as for joblib, means the cores of the machine."""
    assert isolated.IsolatedLauncher(n_jobs).n_jobs == at_once


def test_an_isolated_job_does_not_outlive_its_sweep() -> None:
    """Where the launcher was killed, the job stops at its next word, as after SIGTERM."""
    ours, theirs = Pipe(duplex=False)
    board = isolated._RemoteBoard(theirs)
    advance = board.begin("job", 3)
    advance({"loss": 1.0})
    assert [ours.recv(), ours.recv()] == [("begin", ("job", 3)), ("epoch", {"loss": 1.0})]
    ours.close()
    with pytest.raises(Terminated):
        advance({"loss": 0.5})


@pytest.mark.slow
def test_isolated_jobs_on_another_backend(tmp_path: Path) -> None:
    """What the jobs are forked from has not loaded TensorFlow where they are to run on JAX."""
    runs = sweep("isolated", f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path, "backend=jax")
    assert [found.info.status for found in runs] == ["FINISHED"] * 2
    assert {found.data.params["running_backend"] for found in runs} == {"jax"}


@pytest.mark.slow
def test_a_sweep_through_slurms_commands(tmp_path: Path) -> None:
    """What submitit hands to Slurm runs: the script and its pickles, by stand-ins for Slurm."""
    path = slurm.stand_ins(tmp_path / "bin", runs=True)
    uri = f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}"
    runs = sweep("submitit_slurm", uri, tmp_path, PATH=path)
    assert [found.info.status for found in runs] == ["FINISHED"] * 2


def test_the_script_for_slurm(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """submitit renders the reservation that the config asks for; no Slurm is here to take it."""
    monkeypatch.setenv("PATH", slurm.stand_ins(tmp_path / "bin", runs=False))
    config = compose(
        "config",
        ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.job.num=0",
         "hydra.launcher.gpus_per_node=2", "hydra.launcher.array_parallelism=4",
         "hydra.launcher.setup=[module load cuda]",
         f"hydra.sweep.dir={tmp_path / 'sweep'}", "hydra.mode=MULTIRUN"],
        return_hydra_config=True,
    )  # fmt: skip
    launcher: Any = Plugins.instance()._instantiate(config.hydra.launcher)
    launcher.setup(hydra_context=None, task_function=print, config=config)
    with pytest.raises(Exception, match="sbatch"):  # the stand-in refuses, after a copy
        launcher.launch([[f"seed={seed}"] for seed in range(9)], 0)
    script = (tmp_path / "bin" / "script.sh").read_text().splitlines()
    for flag in ("array=0-8%4", "cpus-per-task=2", "gpus-per-node=2", "mem=4GB",
                 "partition=gpu", "time=60", "nodes=1", "ntasks-per-node=1"):  # fmt: skip
        assert f"#SBATCH --{flag}" in script
    setup, command = script.index("module load cuda"), script[-1]
    assert setup < len(script) - 1
    assert command.startswith("srun ")
    assert f"{sys.executable} -u -m submitit.core._submit" in command


@pytest.mark.parametrize("launcher", launchers.PACKAGES)
def test_threads_follow_the_reservation(composed: Compose, launcher: str) -> None:
    """Every launcher composes, with its package's own keys and one number of threads."""
    config = compose("config", [f"hydra/launcher={launcher}"], return_hydra_config=True)
    threads: Any = OmegaConf.to_container(config.hydra.job.env_set, resolve=True)
    expected = "2" if launcher == "submitit_slurm" else "1"
    assert set(threads.values()) == {expected}
    assert len(threads) == 4
    assert config.hydra.launcher._target_.startswith("hydra_plugins.")


def test_a_plugin_that_is_not_installed(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher without its package is refused in one line, with what installs it."""
    cli.check_overrides(["hydra/launcher=joblib"], Config)
    repo = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.delitem(repo, "joblib_plugin.yaml")
    with pytest.raises(ConfigError, match=r"hydra-joblib-launcher.*'\.\[cluster\]'"):
        cli.check_overrides(["hydra/launcher=joblib"], Config)
