"""Which jobs are trained at once, and the commands that do so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from experiments import cli, paths, together
from experiments.tracking import Store
from tests.support.groups import SMALL, trials
from tests.support.runs import Compose, mistake, runs_of


@pytest.mark.parametrize(
    "override",
    ["optimizer.clipnorm=1.0", "optimizer.global_clipnorm=1.0", "training.jit=true",
     "training.mixed_precision=float16", "regularization=builtin_l2",
     "regularization=optimizer_weight_decay"],
)  # fmt: skip
def test_what_cannot_be_stacked_is_trained_alone(composed: Compose, override: str) -> None:
    """A norm over weights, XLA, loss scaling, Keras' own decay: such a run is in no group."""
    plain, other = composed("config", *SMALL), composed("config", *SMALL, override)
    assert together.group_key(cli.typed(plain), cli.flatten(plain)) is not None
    assert together.group_key(cli.typed(other), cli.flatten(other)) is None


def test_runs_that_differ_in_more_are_kept_apart(composed: Compose) -> None:
    """lambda, seed, learning rate and method may differ, the width may not."""
    nodes = [composed("config", *SMALL, *point) for point in (
        ["seed=1"], ["optimizer.learning_rate=0.3", "regularization=coupled"], ["model.width=9"]
    )]  # fmt: skip
    keys = [together.group_key(cli.typed(node), cli.flatten(node)) for node in nodes]
    assert keys[0] == keys[1] != keys[2]


def test_runs_of_one_learning_rate_share_a_schedule(composed: Compose) -> None:
    """So that the step has each schedule in it once, however many runs there are."""
    nodes = [composed("config", *SMALL, f"seed={seed}", f"optimizer.learning_rate={rate}")
             for seed in (0, 1) for rate in (0.1, 0.2)]  # fmt: skip
    runners = together.Together([cli.typed(node) for node in nodes]).runners
    schedules = [runner.trained.member.learning_rate for runner in runners]
    assert schedules[0] is schedules[2]
    assert schedules[1] is schedules[3]
    assert schedules[0] is not schedules[1]


def test_a_mistake_is_answered_at_once() -> None:
    """A key of the launcher that does not exist is told in one line, before TensorFlow loads."""
    assert "n_jobs" in mistake("experiments.train", "-m", "hydra/launcher=vectorized",
                               "n_jobs=2", "seed=0,1")  # fmt: skip


def test_the_launcher_trains_at_once_what_it_can(uri: str) -> None:
    """One command: HalfL2's runs at once, those of Keras' L2 alone, all under one parent."""
    small = [word for word in SMALL if not word.startswith("training.progress")]
    command = [sys.executable, "-m", "experiments.train", "-m", "hydra/launcher=vectorized", *small,
               "regularization=half_l2,builtin_l2", "seed=0,1", f"tracking.uri={uri}"]  # fmt: skip
    result = subprocess.run(command, cwd=paths.PROJECT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "4 of 4 runs finished" in result.stdout
    found = trials(Store(uri, "l2keras")).values()
    assert len(found) == 4
    for run in found:
        method, tags = run.data.params["regularization.name"], run.data.tags
        assert tags.get("vectorized_size") == ("2" if method == "half_l2" else None)
    assert len({run.data.tags["mlflow.parentRunId"] for run in found}) == 1


def test_another_sweeper_has_its_jobs_trained_alone(uri: str) -> None:
    """Hydra's own composes no jobs for the launcher."""
    command = [sys.executable, "-m", "experiments.train", "-m", "hydra/launcher=vectorized",
               "hydra/sweeper=basic", *SMALL, "seed=0,1", f"tracking.uri={uri}"]  # fmt: skip
    result = subprocess.run(command, cwd=paths.PROJECT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [one.info.status for one in runs_of(Store(uri, "l2keras"))] == ["FINISHED"] * 2
