"""Pages and figures from results; the committed pages are those of the committed JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.collections import LineCollection

from benchmarks.kit import render
from benchmarks.kit.result import RESULTS, Goal, Origin, Result, Section, from_json

NAMES = sorted(path.stem for path in RESULTS.glob("*.json"))
COLUMNS = {"added, ms": ".1f", "IQR, ms": ".1f"}
RESULT = Result(
    "some_name",
    "A title",
    Origin("python -m benchmarks.some_name", "2 cores", 0.25),
    [
        Section("small", COLUMNS, {"none": [None, None], "none, again": [-0.5, 1.0]}, "Batches."),
        Section("large", COLUMNS, {"`a`": [2.0, 4.0], "none, again": [1.0, 0.0]}),
        Section("memory", {"MB": ".2f"}, {"`a`": [3.0]}),
    ],
    [
        Goal("fast", "small", 1.0, 2.0, "met", ".1f", "ms"),
        Goal("big", "large", 3, 2, "met", over=True),
    ],
    ["added, ms", "IQR, ms"],
    "Settings.",
)
PAGE = """\
# A title

2 cores, load average 0.2 at the start: `python -m benchmarks.some_name`.

Settings.

{method}.

![A title: added, ms](some_name.png)

## Goals

| goal | case | measured | limit | verdict |
|---|---|---|---|---|
| fast | small | 1.0 ms | under 2.0 ms | met |
| big | large | 3.00 | over 2.00 | met |

## small

Batches.

|  | added, ms | IQR, ms |
|---|---|---|
| none |  |  |
| none, again | -0.5 | 1.0 |

## large

|  | added, ms | IQR, ms |
|---|---|---|
| `a` | 2.0 | 4.0 |
| none, again | 1.0 | 0.0 |

## memory

|  | MB |
|---|---|
| `a` | 3.00 |
"""


def bars(axes: Any) -> dict[float, float]:
    """The length of the bar at each place."""
    return {round(bar.get_y() + bar.get_height() / 2, 6): bar.get_width() for bar in axes.patches}


def test_a_page() -> None:
    """Each table has its numbers in the columns' formats; an empty cell stays empty."""
    assert render.page(RESULT) == PAGE.format(method=render.METHOD)


def test_a_figure_draws_one_column() -> None:
    """A panel for each table with the column, a bar for each number, on shared rows."""
    small, large = render.draw(RESULT).axes
    assert (small.get_title("left"), large.get_title("left")) == ("small", "large")
    assert bars(small) == {0.0: -0.5}
    assert bars(large) == {0.0: 1.0, 1.0: 2.0}
    assert [label.get_text() for label in small.get_yticklabels()] == ["none, again", "a"]
    (spread,) = large.collections
    assert isinstance(spread, LineCollection)
    segments = spread.get_segments()  # around the end of each bar
    assert [list(segment[:, 0]) for segment in segments] == [[0.0, 4.0], [1.0, 1.0]]


def test_files_are_written_beside_each_other(tmp_path: Path) -> None:
    """A page, and a figure if the result has one."""
    render.write(RESULT, tmp_path)
    render.write(Result("bare", "A title", Origin("command", "machine"), []), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "some_name.md",
        "some_name.png",
        "bare.md",
    }


def test_every_benchmark_has_a_result() -> None:
    """Each mode of step_cost, each backend of sweep, and the other commands."""
    modes = ("graph", "jit", "eager")
    assert {f"step_cost_tensorflow_{mode}" for mode in modes} <= set(NAMES)
    assert {f"sweep_{backend}" for backend in ("tensorflow", "jax", "torch")} <= set(NAMES)
    assert {"whole_way", "fit_overhead", "audit_time", "lazy_embedding", "tracking_cost"} <= set(
        NAMES
    )


@pytest.mark.parametrize("name", NAMES)
def test_committed_pages_are_those_of_the_json(name: str) -> None:
    """`python -m benchmarks.render` would change no page, and each figure is there."""
    result = from_json((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert result.name == name
    assert render.page(result) == (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    assert (RESULTS / f"{name}.png").exists() == bool(result.figure)


def test_no_page_or_figure_is_without_json() -> None:
    """Every file of the results belongs to a JSON file."""
    assert {path.stem for path in RESULTS.iterdir()} == set(NAMES)
