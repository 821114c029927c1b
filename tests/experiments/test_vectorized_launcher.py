"""Which jobs are trained at once."""

from __future__ import annotations

import pytest

from experiments import cli, together
from tests.support.groups import SMALL
from tests.support.runs import Compose, mistake


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
    """lambda, seed, learning rate and method may differ; width and what is decayed may not."""
    nodes = [composed("config", *SMALL, *point) for point in (
        ["seed=1"], ["optimizer.learning_rate=0.3", "regularization=coupled"], ["model.width=9"],
        ["regularization=coupled", "regularization.decay_all=true"],
    )]  # fmt: skip
    keys = [together.group_key(cli.typed(node), cli.flatten(node)) for node in nodes]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


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
