"""How the MLflow UI shows a sweep: columns and charts that are there without a click. Pure.

MLflow opens a study on the parent alone, its children folded, with no column of a parameter or a
metric. A named view, which it keeps as a tag of the study, opens them all; its address leads to it
at once, and the UI's menu "Views" lists it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from experiments.study import LEARNING_RATE, METHOD, Study

TAG = "mlflow.sharedViewState."  # of the study; the rest of the tag's key names the view
LOCAL_UI = "http://127.0.0.1:5000"  # where `mlflow ui` listens unless told otherwise
RUNS, CHARTS = "runs", "charts"
_TRAINING = {"workflowType": "machine_learning"}  # else MLflow shows its menus for agents
_SECTION = "lambda"


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

    def tag(self, created: int) -> tuple[str, str]:
        """The study's tag that keeps it: key and value. `created` is a Unix time in ms."""
        value = {"name": self.name, "createdAt": created, "updatedAt": created}
        return TAG + self.key, json.dumps({**value, "state": json.dumps(self.state)})


def of_sweep(parent: str, name: str, study: Study) -> tuple[View, View]:
    """A table of the runs, best first, and charts of the means over the seeds."""
    metric = study.settings[0].metric if study.settings else "val_data_loss"
    table = _table(parent, metric, _columns(study, metric))
    grouping = {"groupBy": _groups(study), "useGroupedValuesInCharts": True}
    charts = {"compareRunCharts": _charts(metric), "compareRunSections": _sections()}
    return (
        View(f"{parent}-{RUNS}", f"Runs of {name}", table),
        View(
            f"{parent}-{CHARTS}",
            f"Charts of {name}",
            {**table, **grouping, **charts, "isAccordionReordered": True},
        ),
    )


def address(ui: str, experiment_id: str, parent: str, kind: str) -> str:
    """Where the view `kind` (RUNS or CHARTS) of a sweep is, in the UI at `ui`."""
    query = {**_TRAINING, "viewStateShareKey": f"{parent}-{kind}"}
    if kind == CHARTS:
        query["compareRunsMode"] = "CHART"
    return f"{ui}/#/experiments/{experiment_id}/runs?{urlencode(query)}"


def run_address(ui: str, experiment_id: str, run_id: str) -> str:
    """Where the charts of one run are."""
    return f"{ui}/#/experiments/{experiment_id}/runs/{run_id}/model-metrics?{urlencode(_TRAINING)}"


def compare_address(ui: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Where runs are compared, parameter by parameter."""
    query = {"runs": json.dumps(list(run_ids)), "experiments": json.dumps([experiment_id])}
    return f"{ui}/#/compare-runs?{urlencode(query)}"


def _table(parent: str, metric: str, columns: Sequence[str]) -> dict[str, Any]:
    """Sorted by a metric, children are not folded under their parent."""
    return {
        "searchFilter": f"tags.mlflow.parentRunId = '{parent}'",
        "orderByKey": _column("metrics", metric),
        "orderByAsc": metric != "val_accuracy",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": list(columns),
        "columnOrder": list(columns),
        "runsHiddenMode": "SHOW_ALL",  # MLflow plots ten runs unless told otherwise
    }


def _columns(study: Study, metric: str) -> list[str]:
    """Method, lambda and the metric first: what is further right may be out of the window."""
    beside = ("val_data_loss", "data_loss", "penalty", "weight_norm")
    return [
        _column("tags", "method"),
        _column("params", "lambda"),
        _column("metrics", metric),
        *(_column("params", key) for key in (*_others(study), "seed")),
        *(_column("metrics", key) for key in beside if key != metric),
    ]


def _others(study: Study) -> list[str]:
    """What varies beside method, lambda and seed."""
    rates = {rate for setting in study.settings for rate in setting.learning_rates}
    return [*([LEARNING_RATE] if len(rates) > 1 else []), *study.varying]


def _column(kind: str, key: str) -> str:
    return f"{kind}.`{key}`"


def _groups(study: Study) -> dict[str, Any]:
    """Everything but the seed, over which MLflow then takes the mean."""
    keys = (METHOD, "lambda", *_others(study))
    grouped = [{"mode": "param", "groupByData": key} for key in keys]
    return {"aggregateFunction": "average", "groupByKeys": grouped}


def _charts(metric: str) -> list[dict[str, Any]]:
    """The metric over log10(lambda), and over the epochs."""
    common = {
        "metricSectionId": _SECTION,
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 100,
    }
    axes = {
        "xaxis": {"key": "log10_lambda", "type": "PARAM"},
        "yaxis": {"key": metric, "type": "METRIC"},
    }
    lines = [_line(key) for key in dict.fromkeys((metric, "val_data_loss", "weight_norm"))]
    return [{**common, **chart} for chart in ({"uuid": "s", "type": "SCATTER", **axes}, *lines)]


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


def _sections() -> list[dict[str, Any]]:
    flags = {"display": True, "isReordered": False, "deleted": False, "isGenerated": False}
    return [{"uuid": _SECTION, "name": "Means over the seeds", **flags}]
