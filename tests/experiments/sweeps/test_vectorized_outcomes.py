"""The launcher `vectorized`: every job has its own outcome, in the order of the jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hydra import compose
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from hydra_plugins.l2keras_sweeps import vectorized
from l2keras_experiments.commands import validation
from l2keras_experiments.config import flattening
from l2keras_experiments.runtime.outcome import Outcome
from l2keras_experiments.sweeps.vectorized import jobs, trainer
from tests.support.runs import Compose

JOBS = [["regularization=builtin_l2", "seed=0"], ["seed=0"], ["model.width=9"], ["seed=1"]]


@pytest.fixture
def launcher(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The launcher, which trains nothing: an outcome tells how its job would be trained.

    `launcher.alone` lists the jobs that would be trained alone.
    """

    def at_once(nodes: Sequence[DictConfig]) -> list[Outcome | None]:
        flat = [(validation.typed(node), flattening.flatten(node)) for node in nodes]
        assert len({trainer.group_key(*both) for both in flat}) == 1
        if len(nodes) == 1:  # no one to be trained with
            return [None]
        return [Outcome(f"at once, seed {node.seed}", "", "FINISHED") for node in nodes]

    def alone(self: Any, overrides: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
        self.alone = list(overrides)
        found = []
        for words in overrides:
            found.append(JobReturn(overrides=words, status=JobStatus.COMPLETED))
            found[-1].return_value = Outcome(f"alone, {words[0]}", "", "FINISHED")
        return found

    [basic] = vectorized.VectorizedLauncher.__bases__  # Hydra's; Hydra imports plugins anew
    monkeypatch.setattr(jobs, "train_at_once", at_once)
    monkeypatch.setattr(basic, "launch", alone)
    monkeypatch.setattr(vectorized, "configure_log", lambda *_: None)
    launcher = vectorized.VectorizedLauncher()
    launcher.config = compose("config", return_hydra_config=True)
    return launcher


def labels(launcher: Any) -> list[str]:
    returned = launcher.launch(JOBS, 0)
    assert [one.overrides for one in returned] == JOBS
    return [one.return_value.label for one in returned]


def test_each_job_is_trained_once_and_has_its_own_outcome(launcher: Any, composed: Compose) -> None:
    """The second and the fourth form a group; what is left over is trained alone."""
    launcher.composed = [composed("config", *job) for job in JOBS]
    assert labels(launcher) == [
        "alone, regularization=builtin_l2", "at once, seed 0", "alone, model.width=9",
        "at once, seed 1",
    ]  # fmt: skip
    assert launcher.alone == [JOBS[0], JOBS[2]]


def test_jobs_that_no_one_has_composed_are_trained_alone(launcher: Any) -> None:
    """Another sweeper than ours composes none."""
    assert labels(launcher) == [f"alone, {job[0]}" for job in JOBS]
