"""Trials that are trained at once: when they end, and that they are those trained alone."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest

from l2keras_experiments.commands import validation
from l2keras_experiments.config.schema import Config, EarlyStoppingConfig, TuneConfig
from l2keras_experiments.library import Member, State, Trained
from l2keras_experiments.sweeps.vectorized.stacked_run import StackedRun
from l2keras_experiments.training.regularization import Method
from l2keras_experiments.tuning import batches
from l2keras_experiments.tuning.space import Objective
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


def batch_of(trials: int, seeds: int = 1, patience: int | None = None) -> list[batches._Trial]:
    """Trials whose runs have begun to train."""
    study, config = optuna.create_study(), Config()
    config.training.early_stopping = EarlyStoppingConfig(patience=patience)
    weights = State([np.zeros(1)], [])

    def stacked(number: int) -> StackedRun:
        trained = Trained(number, Member(lam=0.1, seed=0, learning_rate=0.5), weights)
        trained.status = "running"
        return StackedRun(config, Method(0.1), trained, {})

    return [
        batches._Trial(study.ask(), [stacked(i * seeds + j) for j in range(seeds)])
        for i in range(trials)
    ]


def end_epoch(batch: list[batches._Trial], at: list[int], *values: float) -> None:
    """Gives the runs that train an epoch with these objectives, in order."""
    left = iter(values)
    for one in batch:
        for stacked in one.runs:
            if stacked.trained.status == "running":
                value = next(left)
                stacked.trained.history.append({})
                stacked.end_epoch({"val_data_loss": value}, stacked.trained.state)
    assert next(left, None) is None
    batches.halve(batch, at)


def test_the_worse_half_ends_when_all_have_come_so_far() -> None:
    """Of five trials two end after the first epoch, of three one after the second."""
    batch = batch_of(5)
    end_epoch(batch, [1, 2], 0.5, 0.1, 0.4, 0.2, 0.3)
    assert [one.is_pruned for one in batch] == [True, False, True, False, False]
    end_epoch(batch, [1, 2], 0.9, 0.2, 0.1)
    assert [one.trains for one in batch] == [False, False, False, True, True]
    assert [one.values for one in batch] == [[0.5], [0.1, 0.9], [0.4], [0.2, 0.2], [0.3, 0.1]]
    assert not batch[0].runs[0].has_result


def test_where_higher_is_better_the_lower_half_ends() -> None:
    batch = batch_of(3)
    for one in batch:
        one.objective = Objective("val_data_loss", higher_is_better=True)
    end_epoch(batch, [1], 0.5, 0.1, 0.4)
    assert [one.is_pruned for one in batch] == [False, True, False]


def test_a_trial_is_judged_by_the_mean_of_its_seeds() -> None:
    """(0 + 1) / 2 is worse than 0.4; both runs of the trial end."""
    batch = batch_of(2, seeds=2)
    end_epoch(batch, [1], 0.0, 1.0, 0.4, 0.4)
    assert [[stacked.trained.status for stacked in one.runs] for one in batch] == [
        ["stopped"] * 2,
        ["running"] * 2,
    ]
    assert [one.values for one in batch] == [[0.5], [0.4]]


def test_a_trial_with_a_run_that_diverged_is_over_at_once() -> None:
    batch = batch_of(2, seeds=2)
    end_epoch(batch, [], 0.0, math.inf, 0.4, 0.4)
    assert [one.trains for one in batch] == [False, True]
    assert batch[0].values == [math.inf]
    end_epoch(batch, [], 0.3, 0.1)
    assert batch[1].values == [0.4, pytest.approx(0.2)]


def test_a_trial_that_stops_early_counts_with_its_best_and_is_not_pruned() -> None:
    """The first stops after 0.3, 0.4; at the rung it is third of four, and ends no later."""
    batch = batch_of(4, patience=1)
    end_epoch(batch, [3], 0.3, 0.9, 0.8, 0.7)
    end_epoch(batch, [3], 0.4, 0.8, 0.7, 0.6)
    assert [one.trains for one in batch] == [False, True, True, True]
    assert batch[0].value == 0.3
    end_epoch(batch, [3], 0.5, 0.2, 0.1)
    assert [one.is_pruned for one in batch] == [False, True, False, False]
    assert [len(one.values) for one in batch] == [2, 3, 3, 3]
    assert batch[0].runs[0].has_result


def test_a_seed_that_has_stopped_counts_with_its_best() -> None:
    """One run stops after 0.2, 0.6; the other has 0.3, then 0.1."""
    [one] = batch = batch_of(1, seeds=2, patience=1)
    end_epoch(batch, [], 0.2, 0.4)
    end_epoch(batch, [], 0.6, 0.3)
    end_epoch(batch, [], 0.1)
    assert one.values == pytest.approx([0.3, 0.25, 0.15])


@pytest.mark.parametrize(
    ("overrides", "stacked"),
    [
        ([], True),
        (["tune.batch_size=1"], False),
        (["regularization=builtin_l2"], False),
        (["optimizer.clipnorm=1"], False),
        (["training.validation_freq=2"], False),
        (["training.early_stopping.patience=3"], True),
        (["tune.learning_rate=[0.1,1]"], True),
    ],
)
def test_what_can_be_trained_at_once(
    composed: Compose, overrides: list[str], stacked: bool
) -> None:
    config = validation.typed(composed("tune", *overrides))
    assert batches.can_be_stacked(config) is stacked
