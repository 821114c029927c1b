"""Verdicts, tables of timings, and results as JSON."""

from __future__ import annotations

import json

import pytest

from benchmarks.kit import result
from benchmarks.kit.result import Goal, Origin, Result, Section
from benchmarks.kit.timing import Timings

RESULT = Result(
    "name",
    "A title",
    Origin("python -m benchmarks.name", "2 cores", 0.5),
    [Section("case", {"ms": ".2f", "share": ".1%"}, {"a": [1.0, None]}, "Text.")],
    [Goal("text", "case", 1.0, 2.0, "met", ".1f", "ms")],
    ["ms"],
    "Settings [a], [1, 2].",
)


@pytest.mark.parametrize(
    ("measured", "limit", "over", "verdict"),
    [
        (0.9, 1.0, False, "met"),
        (1.1, 1.0, False, "not met"),
        (1.1, 1.0, True, "met"),
        (0.9, 1.0, True, "not met"),
        (1.0, 1.0, False, "not met"),  # the limit itself misses a goal
        (1.0, 1.0, True, "not met"),
        (float("nan"), 1.0, False, "not met"),
        (float("nan"), 1.0, True, "not met"),
    ],
)
def test_verdicts(measured: float, limit: float, over: bool, verdict: str) -> None:
    """A goal is met strictly below its limit, or strictly above it."""
    assert result.goal("", "", measured, limit, over=over).verdict == verdict


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((-0.5, 0.1), "too close to tell"), ((0.0, 1.0), "too close to tell"), ((-0.5, -0.1), "met")],
)
def test_a_verdict_needs_an_interval_without_zero(
    interval: tuple[float, float], verdict: str
) -> None:
    """The interval is that of the measured number minus its limit."""
    assert result.goal("", "", 0.9, 1.0, interval=interval).verdict == verdict


def test_json_round_trip() -> None:
    """JSON gives back the same result, with and without a figure; texts keep their brackets."""
    text = result.to_json(RESULT)
    assert result.from_json(text) == RESULT
    assert json.loads(text)["sections"][0]["rows"] == {"a": [1.0, None]}
    assert '"a": [ 1.0, null ]' in text
    bare = Result("name", "A title", Origin("command", "machine"), [])
    assert result.from_json(result.to_json(bare)) == bare


def test_the_table_of_timings_is_in_milliseconds() -> None:
    """The median of 2 s and 4 s, its median difference and its ratio to the baseline."""
    timings = Timings({"base": [1.0, 2.0], "other": [2.0, 4.0]})
    section = result.section_of("case", timings, "Text.")
    assert section.rows == {
        "base": [1500.0, None, None, 1.0],
        "other": [3000.0, 1500.0, 500.0, 2.0],
    }
    assert section.rounds == {"base": [1.0, 2.0], "other": [2.0, 4.0]}
