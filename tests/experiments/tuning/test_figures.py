"""The figures and the table of a study, from trials of every kind."""

from __future__ import annotations

import math
from dataclasses import replace

from l2keras_experiments.tuning import recording
from l2keras_experiments.tuning.figures import figures
from l2keras_experiments.tuning.search import Tried
from l2keras_experiments.tuning.space import LAM, RATE, Objective


def trial(number: int, value: float, state: str, **params: float) -> Tried:
    keys = {"lam": LAM, "rate": RATE}
    named = {keys[key]: value for key, value in params.items()}
    return Tried(number, named, value, state, 3, 1.0, "")


TRIALS = [
    trial(0, math.inf, "diverged", lam=1.0, rate=0.9),
    trial(1, 0.5, "complete", lam=0.1, rate=0.1),
    trial(2, 0.7, "pruned", lam=0.2, rate=0.2),
    trial(3, 1e9, "complete", lam=0.5, rate=0.8),
    trial(4, math.nan, "failed", lam=0.3, rate=0.3),
    trial(5, math.nan, "killed"),
]


def test_a_figure_for_the_search_and_for_each_key() -> None:
    """The history and a slice for each key searched come as SVG and PNG, the same each time."""
    drawn = figures(TRIALS)
    names = ["tuning_history", "tuning_over_learning_rate", "tuning_over_lambda"]
    assert sorted(figure.name for figure in drawn) == sorted(names)
    for figure, again in zip(drawn, figures(TRIALS), strict=True):
        assert figure.svg.startswith("<svg")
        assert figure.svg == again.svg
        assert figure.png.startswith(b"\x89PNG")
    assert [figure.name for figure in figures([trial(0, 0.5, "complete", lam=0.1)])] == [
        "tuning_history", "tuning_over_lambda",
    ]  # fmt: skip


def test_the_legend_names_what_is_there() -> None:
    """Complete, pruned and diverged trials are told apart, where there are any."""
    for figure in figures(TRIALS):
        for words in ("<!-- complete -->", "<!-- pruned, at its last epoch -->",
                      "<!-- diverged, or off the scale -->"):  # fmt: skip
            assert words in figure.svg
    [history, over] = figures([trial(0, 0.5, "complete", lam=0.1)])
    assert "<!-- pruned, at its last epoch -->" not in history.svg
    assert "<!-- best: 0.1 -->" in over.svg


def test_a_trial_off_the_scale_does_not_squeeze_the_others() -> None:
    """One trial of 1e9 leaves the axis where the others are."""
    [history, *_] = figures(TRIALS)
    assert "<!-- 0.5 -->" in history.svg
    assert "<!-- 1e+09 -->" not in history.svg


def test_nothing_completed_is_drawn_too() -> None:
    """Trials that all diverged give figures without a best."""
    drawn = figures([TRIALS[0]])
    assert all("best" not in figure.svg for figure in drawn)


def test_what_is_to_grow_is_drawn_on_a_plain_axis() -> None:
    """The best so far of 0.2, 0.8, 0.5 is at lambda 0.2; nothing is off the scale."""
    accuracy = Objective("val_accuracy", higher_is_better=True)
    values = {0.1: 0.2, 0.2: 0.8, 0.3: 0.5}
    trials = [
        replace(trial(number, value, "complete", lam=lam), objective=accuracy)
        for number, (lam, value) in enumerate(values.items())
    ]
    history, over = figures(trials)
    assert "<!-- val_accuracy -->" in history.svg
    assert "<!-- best: 0.2 -->" in over.svg
    assert "off the scale" not in history.svg


def test_the_table_has_the_learning_rate_where_it_is_searched() -> None:
    """In the order of the trials; what is not a finite number is a dash."""
    columns, rows = recording.table(TRIALS[:2])
    assert columns == [
        "trial", "lambda", "learning rate", "validation data loss", "test data loss", "epochs",
        "seconds", "state",
    ]  # fmt: skip
    assert rows == [
        ["0", "1", "0.9", "-", "-", "3", "1.0", "diverged"],
        ["1", "0.1", "0.1", "0.5", "-", "3", "1.0", "complete"],
    ]
    columns, [row] = recording.table([trial(0, 0.5, "complete", lam=0.1)])
    assert "learning rate" not in columns
    assert row == ["0", "0.1", "0.5", "-", "3", "1.0", "complete"]
