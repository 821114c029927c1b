"""What each launcher of configs/hydra/launcher composes to, and the launcher `isolated`."""

from __future__ import annotations

import os
import sys
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from hydra_plugins.l2keras_sweeps import isolated, sweeper
from l2keras_experiments.config import launchers, overrides
from l2keras_experiments.config.schema import Config, ConfigError
from l2keras_experiments.runtime.signals import Terminated
from tests.support import slurm
from tests.support.runs import Compose


@pytest.mark.parametrize(("n_jobs", "at_once"), [(2, 2), (-1, os.cpu_count())])
def test_how_many_isolated_jobs_at_once(n_jobs: int, at_once: int) -> None:
    """As many as asked for; -1, as for joblib, means the cores of the machine."""
    assert isolated.IsolatedLauncher(n_jobs).n_jobs == at_once


def test_an_isolated_job_does_not_outlive_its_sweep() -> None:
    """Where the launcher was killed, the job stops at its next word, as after SIGTERM."""
    ours, theirs = Pipe(duplex=False)
    board = isolated._RemoteBoard(theirs)
    advance = board.begin("job", 3, "val_auc")
    advance({"loss": 1.0})
    assert [ours.recv(), ours.recv()] == [
        ("begin", ("job", 3, "val_auc")),
        ("epoch", {"loss": 1.0}),
    ]
    ours.close()
    with pytest.raises(Terminated):
        advance({"loss": 0.5})


def test_the_error_of_an_isolated_job_arrives_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process raises outside of its job is the run's failure, not a bare exit status."""
    ours, theirs = Pipe(duplex=False)
    statuses: list[int] = []

    def fail(payload: bytes) -> None:
        raise ConfigError("mine.build raised ValueError: no such layer") from ValueError()

    monkeypatch.setattr(isolated, "_run", fail)
    monkeypatch.setattr(os, "_exit", statuses.append)
    isolated._work(b"", theirs)
    worker = isolated._Worker(0, ["seed=1"], SimpleNamespace(join=lambda: None, exitcode=1), ours)
    assert worker.receive()
    assert not worker.receive()
    job: Any = SimpleNamespace(label="half_l2 seed=1", config_hash="abc")
    outcome = sweeper._outcome(job, worker.result())
    assert statuses == [1]
    assert (outcome.label, outcome.config_hash, outcome.status) == (job.label, "abc", "FAILED")
    assert outcome.failure == "ConfigError: mine.build raised ValueError: no such layer"
    assert "in fail" in str(outcome.details)


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
    overrides.check_overrides(["hydra/launcher=joblib"], Config)
    repo = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.delitem(repo, "joblib_plugin.yaml")
    with pytest.raises(ConfigError, match=r"hydra-joblib-launcher.*'\.\[cluster\]'"):
        overrides.check_overrides(["hydra/launcher=joblib"], Config)
