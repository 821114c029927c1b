"""The views of a sweep in the MLflow UI, and the curves of its parent."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from l2keras_experiments.reports import findings, study, views
from l2keras_experiments.reports.records import Record
from l2keras_experiments.reports.study import Study
from l2keras_experiments.tracking.store import Store


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
    key, value = views.of_sweep("abc", "sweep", found)[kind].tag(1000, 2000)
    envelope = json.loads(value)
    assert key == f"mlflow.sharedViewState.abc-{(views.RUNS, views.CHARTS)[kind]}"
    assert (envelope["createdAt"], envelope["updatedAt"]) == (1000, 2000)
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
        (f"{section}/HalfL2", 0): 0.625,
        (f"{section}/HalfL2", 1): 0.25,
        (f"{section}/keras L2", 1): 0.75,
    })  # fmt: skip


def test_the_table_opens_with_what_a_run_is_known_by(plain: Study) -> None:
    """Method, lambda and accuracy come first, the best run on top, each run on its own."""
    assert columns(plain)[:4] == [
        "tags.method", "params.lambda", "tags.val_accuracy", "tags.test_accuracy",
    ]  # fmt: skip
    table = state(plain, 0)
    assert table["orderByKey"] == "metrics.`val_accuracy`"
    assert table["orderByAsc"] is False
    assert table["searchFilter"] == "tags.`launch.abc` = 'true'"
    assert "groupBy" not in table


def test_what_else_varies_is_a_column() -> None:
    """It comes before the seed; MLflow's own columns come last."""
    runs = [
        record("half_l2", 0.01, seed, 0.5, training__batch_size=size, optimizer__learning_rate=rate)
        for seed in (0, 1)
        for size in ("32", "64")
        for rate in ("0.1", "0.2")
    ]
    found = study.build(runs)
    assert columns(found)[4:7] == [
        "params.optimizer.learning_rate", "params.training.batch_size", "params.seed",
    ]  # fmt: skip
    assert columns(found)[-3:] == ["attributes.Dataset", "attributes.Models", "attributes.Source"]


def test_without_accuracy_the_lowest_loss_comes_first(plain: Study) -> None:
    """A regression is sorted by its loss, and drawn over lambda by it."""
    runs = [
        Record(**{**vars(run), "metrics": {"val_data_loss": run.metrics["val_data_loss"]}})
        for run in plain.runs
    ]
    found = study.build(runs)
    assert state(found, 0)["orderByKey"] == "metrics.`val_data_loss`"
    assert state(found, 0)["orderByAsc"] is True
    assert columns(found)[2:4] == ["tags.val_data_loss", "tags.test_data_loss"]
    assert state(found, 1)["compareRunCharts"][0]["yaxis"]["key"] == "val_data_loss"


def test_the_runs_of_a_comparison_have_a_view_of_their_own() -> None:
    """Sorted by the metric; what else is asked for comes after it."""
    table, _ = views.of_runs("abc", "compare", ("val_mae", False), ())
    assert table.state["orderByAsc"]
    assert "tags.`test_mae`" in table.state["selectedColumns"]
    table, charts = views.of_runs("abc", "compare", ("val_accuracy", True), ("tags.verdict",))
    assert (table.key, charts.key) == ("abc-runs", "abc-charts")
    chosen = [column.replace("`", "") for column in table.state["selectedColumns"]]
    assert chosen[:5] == [
        "tags.method", "params.lambda", "tags.val_accuracy", "tags.test_accuracy", "tags.verdict",
    ]  # fmt: skip
    assert charts.state["compareRunCharts"][0]["yaxis"]["key"] == "val_accuracy"


def test_a_tag_fits_into_a_store(plain: Study) -> None:
    """The tag of a study takes 20,000 characters in MLflow 3.17, and 5,000 before."""
    for view in views.of_sweep("a" * 32, "n" * 500, plain):
        assert len(view.tag(10**12, 10**12)[1]) < 5000


def test_a_store_that_takes_no_view_has_a_plain_link(
    store: Store, plain: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow's state of views is undocumented: without it nothing fails, and the runs are shown."""

    def refusing(*_: Any) -> None:
        raise ValueError("no such tag")

    with store.run("sweep") as parent:
        pass
    with monkeypatch.context() as patch:
        patch.setattr(store.client, "set_experiment_tag", refusing)
        views.save(store, parent.id, views.of_sweep(parent.id, "sweep", plain))
    views.show(store, parent.id)
    captured = capsys.readouterr()
    assert captured.err == "No view was saved for the MLflow UI (ValueError: no such tag).\n"
    [link] = captured.out.splitlines()
    assert "viewStateShareKey" not in link
    assert f"searchFilter=tags.%60launch.{parent.id}%60+%3D+%27true%27" in link
    views.save(store, parent.id, views.of_sweep(parent.id, "sweep", plain))
    views.show(store, parent.id)
    assert capsys.readouterr().out.count(f"viewStateShareKey={parent.id}-") == 2
    assert views.newest(store) == ("study", parent.id)
