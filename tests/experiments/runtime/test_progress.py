"""Tables for a terminal: columns have room as a whole, or are left out."""

from __future__ import annotations

import pytest

from l2keras_experiments.runtime import progress
from l2keras_experiments.runtime.outcome import Outcome

COLUMNS = ("method", "lambda", "loss", "seconds", "verdict")
ROWS = [("a" * 10, "0.01", "0.1234", "1.5", "equal to the last bit")]
# With borders: 1 + (10 + 3) + (6 + 3) + (6 + 3) + (7 + 3) + (14 + 3) = 59; the verdict may wrap.


@pytest.mark.parametrize(
    ("width", "shown"),
    [(56, [0, 1, 2, 3, 4]), (55, [0, 1, 2, 4]), (45, [0, 1, 4]), (37, [0, 1, 4]), (36, [0, 1, 2])],
)
def test_columns_are_left_out_by_their_importance(width: int, shown: list[int]) -> None:
    """The verdict comes before the loss; where it has no room, a narrower column may have."""
    important = ("method", "lambda", "verdict")
    assert progress.fitting(COLUMNS, ROWS, width, important) == shown


def test_all_columns_are_there_where_none_is_important() -> None:
    assert progress.fitting(COLUMNS, ROWS, 10, ()) == [0, 1, 2, 3, 4]


def test_no_number_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 45 columns the names of what was left out are below the table."""
    monkeypatch.setattr(progress, "LOG_WIDTH", 45)
    progress.print_table("title", COLUMNS, [ROWS], ("method", "lambda", "verdict"))
    printed = capsys.readouterr().out
    assert "a" * 10 in printed
    assert "0.01" in printed
    assert "equal to the" in printed
    assert "…" not in printed
    assert "Not shown for want of room: loss, seconds." in printed


def test_what_selects_comes_first() -> None:
    """Also metrics that no task has by itself are shown, the loss with its penalty is not."""
    metrics = {"loss": 2.0, "val_loss": 3.0, "val_data_loss": 1.0, "val_auc": 0.5, "val_mae": 0.25}
    assert progress.summary(metrics) == "val_auc=0.5 val_mae=0.25 val_data_loss=1"
    assert progress.summary(metrics, "val_mae") == "val_mae=0.25 val_auc=0.5 val_data_loss=1"
    done = Outcome("run", "abc", "FINISHED", metrics=metrics, selection="val_mae")
    assert progress.line(done).startswith("run: FINISHED val_mae=0.25 ")
