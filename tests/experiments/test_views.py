"""The views of a sweep in the MLflow UI, and the curves of its parent."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from experiments import findings, study, views
from experiments.records import Record
from experiments.study import Study


def record(
    method: str, lam: float, seed: int, accuracy: float, effective: float | None = None, **more: str
) -> Record:
    """A finished run; parameters beside method, lambda, rate and seed by `more`."""
    params = {
        "regularization.name": method,
        "regularization.lam": str(lam),
        "lambda": str(effective or lam),
        "optimizer.learning_rate": "0.1",
        "seed": str(seed),
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    metrics = {"val_accuracy": accuracy, "val_data_loss": 1 - accuracy}
    name = f"{method} {lam} {seed}"
    return Record(name, name, "FINISHED", {"kind": "trial"}, params, metrics, 0.0, 1.0)


def state(found: Study, kind: int) -> Any:
    """What MLflow reads from the tag: the state of the table (0) or of the charts (1)."""
    key, value = views.of_sweep("abc", "sweep", found)[kind].tag(1000)
    envelope = json.loads(value)
    assert key == f"mlflow.sharedViewState.abc-{(views.RUNS, views.CHARTS)[kind]}"
    assert envelope["createdAt"] == envelope["updatedAt"] == 1000
    return json.loads(envelope["state"])


def columns(found: Study) -> list[str]:
    return [column.replace("`", "") for column in state(found, 0)["selectedColumns"]]


@pytest.fixture
def plain() -> Study:
    """Two methods, one of them with its own unit, at two lambdas with two seeds."""
    runs = [
        *(record("half_l2", 0.01, seed, 0.5 + 0.25 * seed) for seed in (0, 1)),
        *(record("half_l2", 0.1, seed, 0.25) for seed in (0, 1)),
        *(record("builtin_l2", 0.05, seed, 0.75, effective=0.1) for seed in (0, 1)),
        *(record("builtin_l2", 0.5, seed, math.nan, effective=1.0) for seed in (0, 1)),
    ]
    return study.build(runs)


def test_curves_are_means_over_the_lambdas_of_all_methods(plain: Study) -> None:
    """A step is a lambda in the gradient, of whichever method; what diverged has no point."""
    section = "val_accuracy over lambda"
    found = {(key, step): value for key, step, value in findings.curves(plain)}
    assert found == pytest.approx({
        (f"{section}/log10_lambda", 0): -2.0,
        (f"{section}/log10_lambda", 1): -1.0,
        (f"{section}/log10_lambda", 2): 0.0,
        (f"{section}/half_l2", 0): 0.625,
        (f"{section}/half_l2", 1): 0.25,
        (f"{section}/builtin_l2", 1): 0.75,
    })  # fmt: skip


def test_the_table_opens_with_what_a_run_is_known_by(plain: Study) -> None:
    """Method, lambda and accuracy come first, the best run on top, each run on its own."""
    assert columns(plain)[:4] == [
        "tags.method", "params.lambda", "metrics.val_accuracy", "params.seed",
    ]  # fmt: skip
    table = state(plain, 0)
    assert table["orderByKey"] == "metrics.`val_accuracy`"
    assert table["orderByAsc"] is False
    assert table["searchFilter"] == "tags.mlflow.parentRunId = 'abc'"
    assert "groupBy" not in table


def test_what_else_varies_is_a_column_and_parts_the_groups() -> None:
    """A mean is never taken over anything but seeds."""
    runs = [
        record("half_l2", 0.01, seed, 0.5, training__batch_size=size, optimizer__learning_rate=rate)
        for seed in (0, 1)
        for size in ("32", "64")
        for rate in ("0.1", "0.2")
    ]
    found = study.build(runs)
    assert columns(found)[3:6] == [
        "params.optimizer.learning_rate", "params.training.batch_size", "params.seed",
    ]  # fmt: skip
    grouped = [key["groupByData"] for key in state(found, 1)["groupBy"]["groupByKeys"]]
    assert grouped == [
        "regularization.name", "lambda", "optimizer.learning_rate", "training.batch_size",
    ]  # fmt: skip


def test_without_accuracy_the_lowest_loss_comes_first(plain: Study) -> None:
    """A regression is sorted by its loss, and drawn over lambda by it."""
    runs = [
        Record(**{**vars(run), "metrics": {"val_data_loss": run.metrics["val_data_loss"]}})
        for run in plain.runs
    ]
    found = study.build(runs)
    assert state(found, 0)["orderByKey"] == "metrics.`val_data_loss`"
    assert state(found, 0)["orderByAsc"] is True
    assert columns(found).count("metrics.val_data_loss") == 1
    assert state(found, 1)["compareRunCharts"][0]["yaxis"]["key"] == "val_data_loss"


def test_a_tag_fits_into_a_store(plain: Study) -> None:
    """The tag of a study takes 20,000 characters in MLflow 3.17, and 5,000 before."""
    for view in views.of_sweep("a" * 32, "n" * 500, plain):
        assert len(view.tag(10**12)[1]) < 5000
