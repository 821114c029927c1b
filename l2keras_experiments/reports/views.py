"""How the MLflow UI shows a launch: columns and charts that are there without a click.

MLflow opens a study on the parent alone, its children folded, with no column of a parameter or a
metric. A named view, which it keeps as a tag of the study, opens them all; its address leads to it
at once, and the UI's menu "Views" lists it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from l2keras_experiments.config import credentials
from l2keras_experiments.runtime.outcome import describe
from l2keras_experiments.tracking.store import Store, launch_tag

if TYPE_CHECKING:
    from l2keras_experiments.reports.study import Study

TAG = "mlflow.sharedViewState."  # of the study; the rest of the tag's key names the view
LOCAL_UI = "http://127.0.0.1:5000"  # where `mlflow ui` listens unless told otherwise
RUNS, CHARTS = "runs", "charts"
STUDY = "study"  # in the place of a parent: all runs of a study
_TRAINING = {"workflowType": "machine_learning"}  # else MLflow shows its menus for agents
_SECTION = "lambda"
_RATE = "optimizer.learning_rate"
# Columns of MLflow's own, right of ours; and the widths of those that do not fit into 100 pixels.
_ATTRIBUTES = ("Dataset", "Models", "Source")
_WIDTHS = {"method": 165, "lambda": 110, "test_accuracy": 110, "val_data_loss": 110,
           "test_data_loss": 115, "seed": 60, "pruned": 70, "distance": 80, "verdict": 280,
           _RATE: 160, "Dataset": 220, "Models": 120, "Source": 170}  # fmt: skip


@dataclass(frozen=True)
class View:
    """A named view of the runs of a sweep.

    Attributes:
        key: What the address calls it.
        name: What the menu calls it.
        state: MLflow's own description of it.
    """

    key: str
    name: str
    state: Mapping[str, Any]

    def tag(self, created: int, updated: int) -> tuple[str, str]:
        """The study's tag that keeps it: key and value. Both times are Unix times in ms."""
        value = {"name": self.name, "createdAt": created, "updatedAt": updated}
        return TAG + self.key, json.dumps({**value, "state": json.dumps(self.state)})


def of_sweep(parent: str, name: str, study: Study) -> tuple[View, View]:
    """A table of the runs, best first, and charts whose colours are the methods."""
    first = study.settings[0] if study.settings else None
    selection = (first.metric, first.higher_is_better) if first else ("val_data_loss", False)
    columns = _columns(study, selection[0])
    return _views(parent, name, _of_launch(parent), selection, columns)


def of_runs(
    parent: str,
    name: str,
    selection: tuple[str, bool],
    beside: Sequence[str],
    charted: Sequence[str] = (),
) -> tuple[View, View]:
    """The same of runs that are no sweep's: a comparison's, a search's.

    Args:
        parent: The id of their parent.
        name: Of the launch, for people.
        selection: The metric that they are sorted by, and whether it is to grow.
        beside: Columns further to the right, such as "tags.verdict".
        charted: Metrics over lambda beside the one that they are sorted by.
    """
    kinds = (key.partition(".") for key in beside)
    own = (_column(kind, key) for kind, _, key in kinds)
    columns = list(dict.fromkeys([*_first_columns(selection[0]), *own]))
    return _views(parent, name, _of_launch(parent), selection, columns, charted)


def of_study(selection: tuple[str, bool]) -> tuple[View, View]:
    """The same of all runs of a study, for one that was trained alone."""
    others = (_RATE, "data.name", "model.name", "optimizer.name", "seed")
    columns = [*_first_columns(selection[0]), *(_column("params", key) for key in others)]
    return _views(STUDY, "the study", _of_launch(STUDY), selection, columns)


def _views(
    key: str,
    name: str,
    chosen: str,
    selection: tuple[str, bool],
    columns: Sequence[str],
    charted: Sequence[str] = (),
) -> tuple[View, View]:
    metric, _ = selection
    table = _table(chosen, selection, columns)
    charts = {
        "compareRunCharts": _charts(metric, charted),
        "compareRunSections": _sections(metric),
        "isAccordionReordered": True,
    }
    return (
        View(f"{key}-{RUNS}", f"Runs of {name} ({key[:8]})", table),
        View(f"{key}-{CHARTS}", f"Charts of {name} ({key[:8]})", {**table, **charts}),
    )


def address(ui: str, experiment_id: str, parent: str, kind: str) -> str:
    """Where the view `kind` (RUNS or CHARTS) of a sweep is, in the UI at `ui`."""
    query = {**_TRAINING, "viewStateShareKey": f"{parent}-{kind}"}
    if kind == CHARTS:
        query["compareRunsMode"] = "CHART"
    return f"{ui}/#/experiments/{experiment_id}/runs?{urlencode(query)}"


def save(store: Store, parent: str, views: Iterable[View]) -> None:
    """Writes views into the study; again they take the place of the earlier ones.

    The runs are recorded: a store that does not take a view fails nothing.
    """
    now = int(time.time() * 1000)
    try:
        created = now if parent == STUDY else store.client.get_run(parent).info.start_time
        for view in views:
            store.client.set_experiment_tag(store.experiment_id, *view.tag(created, now))
    except Exception as error:  # whatever a client, a driver or a disk may raise
        print(f"No view was saved for the MLflow UI ({describe(error)}).", file=sys.stderr)


def newest(store: Store) -> tuple[str, str] | None:
    """The study and the parent of the view that was saved last, in any study of the store."""
    ending = f"-{RUNS}"
    found = [
        (json.loads(value)["updatedAt"], one.name, key.removeprefix(TAG).removesuffix(ending))
        for one in store.client.search_experiments()
        for key, value in one.tags.items()
        if key.startswith(TAG) and key.endswith(ending)
    ]
    return max(found)[1:] if found else None


def show(store: Store, parent: str, ui: str = LOCAL_UI) -> None:
    """Prints where the UI shows the runs and charts of a launch; without a view only the runs."""
    ui = credentials.page(store.uri).rstrip("/") if store.uri.startswith("http") else ui
    try:
        saved = store.client.get_experiment(store.experiment_id).tags
    except Exception:  # as in `save`
        saved = {}
    if f"{TAG}{parent}-{CHARTS}" not in saved:
        query = urlencode({**_TRAINING, "searchFilter": _of_launch(parent)})
        print(f"  runs: {ui}/#/experiments/{store.experiment_id}/runs?{query}")
        return
    for kind in (RUNS, CHARTS):
        print(f"  {kind}: {address(ui, store.experiment_id, parent, kind)}")


def run_address(ui: str, experiment_id: str, run_id: str) -> str:
    """Where the charts of one run are."""
    return f"{ui}/#/experiments/{experiment_id}/runs/{run_id}/model-metrics?{urlencode(_TRAINING)}"


def compare_address(ui: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Where runs are compared, parameter by parameter."""
    query = {"runs": json.dumps(list(run_ids)), "experiments": json.dumps([experiment_id])}
    return f"{ui}/#/compare-runs?{urlencode(query)}"


def _of_launch(parent: str) -> str:
    if parent == STUDY:
        return "tags.kind = 'trial'"
    return f"tags.`{launch_tag(parent)}` = 'true'"


def _table(chosen: str, selection: tuple[str, bool], columns: Sequence[str]) -> dict[str, Any]:
    """Sorted by a metric, children are not folded under their parent."""
    metric, higher_is_better = selection
    columns = [*columns, *(_column("attributes", name) for name in _ATTRIBUTES)]
    widths = {column: _WIDTHS.get(column.split("`")[1], 100) for column in columns}
    return {
        "searchFilter": chosen,
        "orderByKey": _column("metrics", metric),
        "orderByAsc": not higher_is_better,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": list(columns),
        "columnOrder": list(columns),
        "columnWidths": widths,
        "runsHiddenMode": "SHOW_ALL",  # MLflow plots ten runs unless told otherwise
    }


def _columns(study: Study, metric: str) -> list[str]:
    """Method, lambda and the metric first: what is further right may be out of the window."""
    beside = ("val_data_loss", "data_loss", "penalty", "weight_norm")
    return [
        *_first_columns(metric),
        *(_column("params", key) for key in (*_others(study), "seed")),
        *(_column("tags", key) for key in beside if key != metric),
    ]


def _first_columns(metric: str) -> list[str]:
    """Method, lambda, and the metric with four digits, which only a text has in this UI."""
    names = (metric, metric.replace("val_", "test_", 1))
    return [
        _column("tags", "method"),
        _column("params", "lambda"),
        *(_column("tags", name) for name in names),
    ]


def _others(study: Study) -> list[str]:
    """What varies beside method, lambda and seed."""
    rates = {rate for setting in study.settings for rate in setting.learning_rates}
    return [*([_RATE] if len(rates) > 1 else []), *study.varying]


def _column(kind: str, key: str) -> str:
    return f"{kind}.`{key}`"


def _charts(metric: str, charted: Sequence[str]) -> list[dict[str, Any]]:
    """The metrics over log10(lambda), and over the epochs."""
    common = {
        "metricSectionId": _SECTION,
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 100,
    }
    over_lambda = [_scatter(key) for key in dict.fromkeys((metric, *charted))]
    lines = [_line(key) for key in dict.fromkeys((metric, "val_data_loss", "weight_norm"))]
    return [{**common, **chart} for chart in (*over_lambda, *lines)]


def _scatter(metric: str) -> dict[str, Any]:
    return {
        "uuid": f"{metric} over lambda",
        "type": "SCATTER",
        "xaxis": {"key": "log10_lambda", "type": "PARAM"},
        "yaxis": {"key": metric, "type": "METRIC"},
    }


def _line(metric: str) -> dict[str, Any]:
    return {
        "uuid": metric,
        "type": "LINE",
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
        "selectedXAxisMetricKey": "",
        "range": {},
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def _sections(metric: str) -> list[dict[str, Any]]:
    flags = {"display": True, "isReordered": False, "deleted": False, "isGenerated": False}
    name = f"{metric} over lambda (equal runs overlap)"
    return [{"uuid": _SECTION, "name": name, "columns": 2, **flags}]
