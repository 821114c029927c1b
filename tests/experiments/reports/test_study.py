"""Runs sorted into settings and cells, winners known beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest

from l2keras_experiments.reports import study
from l2keras_experiments.reports.study import Study
from tests.support.synthetic import Trial, seeds


def build(trials: Iterable[Trial]) -> Study:
    return study.build(trial.record() for trial in trials)


def test_cells_gather_seeds() -> None:
    """Runs that differ in nothing but the seed are one cell, with the mean of their accuracies."""
    [setting] = build(seeds(Trial(), [0.7, 0.8, 0.9])).settings
    [cell] = setting.cells
    assert list(cell.runs) == [0, 1, 2]
    assert cell.interval("val_accuracy").mean == pytest.approx(0.8)
    assert (setting.label, setting.metric) == ("", "val_accuracy")


def test_a_foreign_run_beyond_all_numbers_is_left_out() -> None:
    """Its seed or lambda belongs into no cell; the others keep their page."""
    runs = [trial.record() for trial in seeds(Trial(), [0.7, 0.8])]
    beyond = [
        replace(runs[0], id=key, params={**runs[0].params, key: value})
        for key in (study.LAM, study.LEARNING_RATE, "seed")
        for value in ("inf", "1e999")
    ]
    [setting] = study.build([*runs, *beyond]).settings
    [cell] = setting.cells
    assert list(cell.runs) == [0, 1]


def test_the_best_cell_by_mean() -> None:
    """The best cell has the best mean, not the best run; isolation takes the best learning rate."""
    lucky = seeds(Trial(lam=0.1), [0.95, 0.5, 0.6])
    steady = seeds(Trial(lam=0.2), [0.8, 0.8, 0.81])
    slow = seeds(Trial(lam=0.1, learning_rate=0.01), [0.7, 0.7, 0.7])
    [setting] = build([*lucky, *steady, *slow]).settings
    best = setting.best("half_l2")
    assert best is not None
    assert (best.lam, best.learning_rate) == (0.2, 0.5)
    # 0.7 is more than (0.95 + 0.5 + 0.6) / 3 = 0.683
    shown = [(cell.lam, cell.learning_rate) for cell in setting.isolation("half_l2")]
    assert shown == [(0.1, 0.01), (0.2, 0.5)]


def test_a_regression_is_judged_by_its_loss() -> None:
    """Without an accuracy the lowest data loss is best, and infinities lose."""
    trials = [
        *seeds(Trial(lam=0.1, accuracy=None), [2.0, 2.2]),
        *seeds(Trial(lam=0.2, accuracy=None), [1.0, 1.2]),
        *seeds(Trial(lam=0.3, accuracy=None), [0.1, 1.797e308]),
    ]
    [setting] = build(trials).settings
    assert setting.metric == "val_data_loss"
    assert [cell.lam for cell in setting.ranked(setting.cells)] == [0.2, 0.1, 0.3]
    best = setting.best("half_l2")
    assert best is not None
    assert best.lam == 0.2
    assert math.isnan(setting.cells[-1].interval("val_data_loss").mean)


def test_one_lucky_seed_does_not_win() -> None:
    """A cell with fewer than half the seeds of the fullest one does not compete."""
    trials = [*seeds(Trial(lam=0.1), [0.7] * 5), *seeds(Trial(lam=0.2), [0.99, 0.99])]
    [setting] = build(trials).settings
    best = setting.best("half_l2")
    assert best is not None
    assert best.lam == 0.1


def test_the_lambdas_of_methods_share_an_axis() -> None:
    """Cells stand at the effective lambda: twice what was written for the built-in, 0 for none."""
    trials = [Trial("builtin_l2", 0.1), Trial("half_l2", 0.1), Trial("none", 0.3)]
    [setting] = build(trials).settings
    assert setting.methods == ["none", "builtin_l2", "half_l2"]
    assert {cell.method: cell.effective_lam for cell in setting.cells} == {
        "none": 0.0,
        "builtin_l2": 0.2,
        "half_l2": 0.1,
    }


def test_whatever_else_varies_makes_settings() -> None:
    """Another parameter of the config splits the runs, in the order of its numbers."""
    sizes = {"training.batch_size": "128"}, {"training.batch_size": "16"}
    found = build(Trial(seed=seed, others=other) for other in sizes for seed in (0, 1))
    assert [setting.label for setting in found.settings] == ["batch_size=16", "batch_size=128"]
    assert all(len(setting.cells[0].runs) == 2 for setting in found.settings)
    assert found.varying == ("training.batch_size",)


def test_keys_that_change_together_count_once() -> None:
    """Of keys that tell the same runs apart a name comes first; `model.name` is model."""
    others = [
        {"optimizer.name": "sgd", "optimizer.momentum": "0.9", "tracking.uri": "a"},
        {"optimizer.name": "adam", "optimizer.momentum": "0.0", "tracking.uri": "b"},
    ]
    found = build(Trial(others=other) for other in others)
    assert found.varying == ("optimizer.name",)
    assert [setting.label for setting in found.settings] == ["optimizer=adam", "optimizer=sgd"]
    assert study.short("model.name") == "model"


def test_a_key_that_older_runs_lack_splits_nothing() -> None:
    """Runs of before a key existed stay with those that have it."""
    found = build([Trial(seed=0), Trial(seed=1, others={"training.new": "1"})])
    [setting] = found.settings
    assert setting.seeds == [0, 1]


def test_arguments_of_targets_make_settings() -> None:
    """`model.width=8,16` parts the runs, and so does one that a config leaves to its default."""
    widths = {"model.width": "16"}, {"model.width": "8"}
    found = build(Trial(others=other) for other in widths)
    assert [setting.label for setting in found.settings] == ["width=8", "width=16"]
    assert found.varying == ("model.width",)
    found = build(Trial(others=other) for other in ({"model.units": "8"}, {}))
    assert [setting.label for setting in found.settings] == ["units=8", "units=default"]


def test_arguments_that_only_one_model_has() -> None:
    """The widths of one model are told apart beside another model that has none."""
    others = [
        {"model.name": "mine.build", "model._target_": "mine.build"},
        *({"model.name": "mlp", "model._target_": "m.mlp", "model.width": w} for w in ("8", "16")),
    ]
    found = build(Trial(others=other) for other in others)
    assert [setting.label for setting in found.settings] == [
        "model=mine.build",
        "model=mlp, width=8",
        "model=mlp, width=16",
    ]


def test_a_value_with_arguments_of_its_own() -> None:
    """A loss by name, and losses by target, are three settings."""
    others = [
        {"training.loss": "mse"},
        *({"training.loss._target_": "keras.losses.Huber", "training.loss.delta": d} for d in "12"),
    ]
    found = build(Trial(others=other) for other in others)
    assert [setting.label for setting in found.settings] == [
        "loss=keras.losses.Huber, delta=1",
        "loss=keras.losses.Huber, delta=2",
        "loss=mse",
    ]


def test_keys_that_would_read_the_same_are_written_out() -> None:
    """Two groups may have an argument of one name."""
    keys = "data.size", "model.size"
    values = [("1", "1"), ("1", "2"), ("2", "1")]
    found = build(Trial(others=dict(zip(keys, pair, strict=True))) for pair in values)
    assert found.settings[1].label == "data.size=1, model.size=2"


def test_a_failed_run_is_made_good_by_the_same_config_with_another_source() -> None:
    """A model that raised and was mended has another hash; its failed run is not missing."""
    failed = Trial(status="FAILED", start=1.0, tags={"config_hash": "before"})
    other = Trial(seed=1, status="FAILED", start=1.0, tags={"config_hash": "elsewhere"})
    later = Trial(status="FAILED", start=3.0, tags={"config_hash": "edited again"})
    found = build([failed, other, Trial(start=2.0), later])
    assert [record.tags["config_hash"] for record in found.failed] == ["elsewhere", "edited again"]


def test_of_reruns_the_newest_counts() -> None:
    """Of finished runs with one config the newest counts, whatever the order they come in."""
    old, new = Trial(accuracy=0.1, start=1.0), Trial(accuracy=0.9, start=2.0)
    for trials in ([old, new], [new, old]):
        found = build(trials)
        assert found.settings[0].cells[0].values("val_accuracy") == {0: 0.9}
        assert len(found.runs) == 1


def test_failed_runs_that_nothing_replaced() -> None:
    """FAILED, KILLED and RUNNING runs are missing, unless the same config finished."""
    trials = [
        Trial(seed=0, status="FAILED", start=1.0),
        Trial(seed=0, start=2.0),
        Trial(seed=1, status="FAILED"),
        Trial(seed=2, status="KILLED"),
        Trial(seed=3, status="RUNNING"),
    ]
    found = build(trials)
    assert [record.params["seed"] for record in found.failed] == ["1", "2", "3"]
    assert [setting.seeds for setting in found.settings] == [[0]]


def test_runs_of_before_the_tags() -> None:
    """Without tags the method comes from the parameters and a rerun is known by its place."""
    failed = replace(Trial(status="FAILED").record(), tags={})
    finished = replace(Trial(start=1.0).record(), tags={})
    found = study.build([failed, finished])
    assert found.settings[0].methods == ["half_l2"]
    assert not found.failed


def test_sweeps_and_comparisons_are_no_trials() -> None:
    """The parent of a sweep and the arms of a comparison stay outside."""
    parent = replace(Trial().record(), tags={"kind": "sweep"}, params={})
    arm = replace(Trial().record(), tags={"arm": "builtin_half", "method": "builtin_l2"})
    assert not study.build([parent, arm]).settings
