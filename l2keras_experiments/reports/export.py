"""The runs of a study as a table of numbers, for other programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l2keras_experiments.config import methods, paths
from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.reports.records import Record
from l2keras_experiments.reports.study import Setting, Study

FORMATS = ("csv", "parquet")


def check(flag: str, path: Path) -> None:
    """Raises ConfigError where a file cannot be written."""
    try:
        paths.check_writable(path.absolute().parent)
        if path.is_dir():
            raise ValueError("it is a folder")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{flag} must be a file that can be written. "
            f"Received: {path} ({paths.reason(error)}). Choose another path."
        ) from None


def rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row for each run: what it is, its parameters and its last metrics, numbers as numbers."""
    return [
        {
            "run_id": record.id,
            "name": record.name,
            "status": record.status,
            "method": methods.label(record.method),
            **{key: _value(text) for key, text in sorted(record.params.items())},
            **{key: float(number) for key, number in sorted(record.metrics.items())},
        }
        for record in records
    ]


def write(records: Sequence[Record], path: Path, kind: str) -> None:
    """Writes the runs as "csv" or "parquet"."""
    import pandas as pd

    table = pd.DataFrame(rows(records))
    for column in table.columns:  # one type a column, as parquet needs
        kinds = {type(value) for value in table[column].dropna()}
        if len(kinds) > 1 and not kinds <= {int, float}:
            table[column] = table[column].map(lambda value: None if value is None else str(value))
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)


def to_json(study: Study) -> str:
    """The leaderboards as numbers: means, half-widths of the 95 % intervals, seeds."""
    settings = [
        {"setting": setting.label, "metric": setting.metric, "rows": _cells(setting)}
        for setting in study.settings
    ]
    return json.dumps({"settings": settings}, indent=2)


def _cells(setting: Setting) -> list[dict[str, Any]]:
    found = []
    for cell in setting.ranked(setting.cells):
        chosen, test = cell.interval(setting.metric), cell.interval(setting.test_metric)
        found.append(
            {
                "method": methods.label(cell.method),
                "lam": cell.lam,
                "lambda": cell.effective_lam,
                "learning_rate": cell.learning_rate,
                "seeds": sorted(cell.runs),
                setting.metric: _finite(chosen.mean),
                "half_width": _finite(chosen.half_width),
                setting.test_metric: _finite(test.mean),
            }
        )
    return found


def _finite(number: float | None) -> float | None:
    """JSON has no nan."""
    return number if number is not None and math.isfinite(number) else None


def _value(text: str) -> Any:
    """A parameter as the number or truth value that MLflow has written as text."""
    if text in ("True", "False"):
        return text == "True"
    if text in ("null", "None"):
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
