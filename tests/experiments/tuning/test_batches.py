"""Trials that are trained at once: when they end, and that they are those trained alone."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest

from l2keras_experiments.commands import validation
from l2keras_experiments.config.schema import TuneConfig
from l2keras_experiments.tuning import batches
from tests.support.runs import Compose


def config_of(warmup: int, epochs: int, pruning: bool = True) -> TuneConfig:
    config = TuneConfig()
    config.tune.warmup_epochs, config.tune.pruning = warmup, pruning
    config.training.epochs = epochs
    return config


@pytest.mark.parametrize(
    ("warmup", "epochs", "pruning", "expected"),
    [
        (5, 30, True, [5, 10, 20]),
        (5, 20, True, [5, 10]),
        (0, 5, True, [1, 2, 4]),
        (9, 9, True, []),
        (1, 9, False, []),
    ],
)
def test_the_epochs_after_which_trials_end(
    warmup: int, epochs: int, pruning: bool, expected: list[int]
) -> None:
    """The warm-up, doubled; not after the last epoch, where all have been trained."""
    assert batches.rungs(config_of(warmup, epochs, pruning)) == expected


class Stack:
    """In the place of the stacked training: which runs were ended."""

    def __init__(self) -> None:
        self.stopped: list[int] = []

    def stop(self, number: int) -> None:
        self.stopped.append(number)


def halving_of(trials: int, seeds: int, at: list[int]) -> tuple[Any, list[Any], Stack]:
    study = optuna.create_study()
    batch = [
        batches._Trial(study.ask(), list(range(i * seeds, (i + 1) * seeds))) for i in range(trials)
    ]
    stack = Stack()
    return batches._Halving(batch, at, stack), batch, stack  # type: ignore[arg-type]  # a Stack


def test_the_worse_half_ends_when_all_have_come_so_far() -> None:
    """Of five trials two end after the first epoch, of three one after the second."""
    halving, batch, stack = halving_of(5, 1, [1, 2])
    for number, value in enumerate([0.5, 0.1, 0.4, 0.2]):
        halving.observe(number, value)
    assert stack.stopped == []
    halving.observe(4, 0.3)
    assert stack.stopped == [2, 0]
    for number, value in ((1, 0.9), (3, 0.2), (4, 0.1)):
        halving.observe(number, value)
    assert stack.stopped == [2, 0, 1]
    assert [one.values for one in batch] == [[0.5], [0.1, 0.9], [0.4], [0.2, 0.2], [0.3, 0.1]]
    assert [one.is_over for one in batch] == [True, True, True, False, False]


def test_a_trial_is_judged_by_the_mean_of_its_seeds() -> None:
    """(0 + 1) / 2 is worse than 0.4; both runs of the trial end."""
    halving, batch, stack = halving_of(2, 2, [1])
    for number, value in enumerate([0.0, 1.0, 0.4, 0.4]):
        halving.observe(number, value)
    assert stack.stopped == [0, 1]
    assert [one.values for one in batch] == [[0.5], [0.4]]


def test_a_trial_with_a_run_that_diverged_is_over_at_once() -> None:
    halving, batch, stack = halving_of(2, 2, [])
    for number, value in enumerate([0.0, math.inf, 0.4, 0.4]):
        halving.observe(number, value)
    assert stack.stopped == [0, 1]
    assert batch[0].values == [math.inf]
    halving.observe(2, 0.3)
    halving.observe(3, 0.1)
    assert batch[1].values == [0.4, pytest.approx(0.2)]


@pytest.mark.parametrize(
    ("overrides", "stacked"),
    [
        ([], True),
        (["tune.batch_size=1"], False),
        (["regularization=builtin_l2"], False),
        (["optimizer.clipnorm=1"], False),
        (["training.validation_freq=2"], False),
        (["tune.learning_rate=[0.1,1]"], True),
    ],
)
def test_what_can_be_trained_at_once(
    composed: Compose, overrides: list[str], stacked: bool
) -> None:
    config = validation.typed(composed("tune", *overrides))
    assert batches.can_be_stacked(config) is stacked
