"""The runs of a study as tables of numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.reports import export, study
from l2keras_experiments.reports.records import Record


def record(lam: float, seed: int, accuracy: float, **params: str) -> Record:
    chosen = {
        "regularization.name": "half_l2", "regularization.lam": str(lam), "lambda": str(lam),
        "optimizer.learning_rate": "0.1", "seed": str(seed), "data.num_train": "null",
        "optimizer.nesterov": "False", **params,
    }  # fmt: skip
    metrics = {"val_accuracy": accuracy, "test_accuracy": accuracy - 0.25}
    name = f"{lam} s{seed}"
    return Record(name, name, "FINISHED", {"kind": "trial"}, chosen, metrics, 0.0, 1.0)


RUNS = [record(0.1, 0, 0.5), record(0.1, 1, 1.0, **{"model.width": "8"}), record(0.2, 0, 0.25)]


@pytest.mark.parametrize("kind", export.FORMATS)
def test_numbers_are_read_back_as_numbers(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"runs.{kind}"
    export.write(RUNS, path, kind)
    table = pd.read_csv(path) if kind == "csv" else pd.read_parquet(path)
    assert list(table["val_accuracy"]) == [0.5, 1.0, 0.25]
    assert list(table["regularization.lam"]) == [0.1, 0.1, 0.2]
    assert list(table["seed"]) == [0, 1, 0]
    assert list(table["optimizer.nesterov"]) == [False] * 3
    assert table["data.num_train"].isna().all()
    assert table["model.width"].tolist()[1] == 8
    assert table["name"].tolist() == ["0.1 s0", "0.1 s1", "0.2 s0"]


def test_a_column_of_numbers_and_words_becomes_words(tmp_path: Path) -> None:
    """A loss that is a name in one run and a number in another: parquet has one type a column."""
    runs = [record(0.1, 0, 0.5, loss="0.5"), record(0.1, 1, 0.5, loss="mse")]
    export.write(runs, tmp_path / "runs.parquet", "parquet")
    assert pd.read_parquet(tmp_path / "runs.parquet")["loss"].tolist() == ["0.5", "mse"]


def test_the_leaderboard_is_there_in_numbers() -> None:
    """Means over the seeds, best first: (0.5 + 1) / 2 at 0.1; without an interval for one seed."""
    found = json.loads(export.to_json(study.build([RUNS[0], RUNS[2], record(0.1, 1, 1.0)])))
    [setting] = found["settings"]
    first, second = setting["rows"]
    assert (first["lambda"], first["val_accuracy"], first["test_accuracy"]) == (0.1, 0.75, 0.5)
    assert first["seeds"] == [0, 1]
    assert (second["lambda"], second["val_accuracy"], second["half_width"]) == (0.2, 0.25, None)


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--csv must be a file that can be written"):
        export.check("--csv", tmp_path)
    export.check("--csv", tmp_path / "new" / "runs.csv")
