"""The figures of the results of a study. Pure functions of its settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from l2keras_experiments.reports import drawing, findings
from l2keras_experiments.reports.statistics import Difference, Interval
from l2keras_experiments.reports.study import ACCURACY, Cell, Setting, names

COLUMNS = 3  # panels side by side
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # of a text on lines
DECADE = 10.0
EXTRA = ["#d55e00", "#56b4e9", "#cc79a7", "#e69f00"]  # methods that have no look of their own


def isolation(settings: Sequence[Setting], narrow: bool = False) -> Figure:
    """The metric over lambda at the learning rate that is best for each; a panel a setting."""
    columns = 1 if narrow else min(COLUMNS, len(settings))
    rows = math.ceil(len(settings) / columns)
    height = (1.4 if narrow else 0.8) + 2.9 * rows
    figure = drawing.new_figure(4.8 if len(settings) == 1 else height, narrow)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=len(_metrics(settings)) == 1)
    titles = names(settings)
    for axes, setting, title in itertools.zip_longest(grid.flat, settings, titles):
        if setting is None:
            axes.set_visible(False)
        else:
            axes.set_title(title, fontsize="medium")
            _isolation_panel(drawing.tidy(axes), setting, columns > 1 or narrow, narrow)
    for axes, setting in zip(grid.flat, settings, strict=False):
        _height(axes, setting)  # last, as panels may share it
        if axes in grid[:, 0] or len(_metrics(settings)) > 1:
            axes.set_ylabel(setting.metric_title)
    legend(figure, grid.flat, 1 if narrow else 3)
    return figure


def _metrics(settings: Sequence[Setting]) -> list[str]:
    return sorted({setting.metric_title for setting in settings})


def _isolation_panel(axes: Axes, setting: Setting, small: bool, narrow: bool) -> None:
    curves = {method: setting.isolation(method) for method in setting.methods}
    for cells in curves.values():
        for cell in (c for c in cells if not c.effective_lam):
            _baseline(axes, setting, cell)
    lined = {method: [c for c in curves[method] if c.effective_lam] for method in curves}
    lams = sorted({cell.effective_lam for cells in lined.values() for cell in cells})
    for cells in lined.values():
        _curve(
            axes,
            setting,
            cells,
            [_apart(cell, lined, lams, 0.035 if small else 0.015) for cell in cells],
        )
    if any(cell.measured(setting.test_metric) for cell in setting.leaders):
        star_in_legend(axes, setting.test_title)
    if lams:
        lambda_axis(axes, lams, most=5 if small else 10)
    axes.set_xlabel("lambda" if small else "lambda (coefficient of W in the gradient)")
    axes.tick_params(labelsize=drawing.small(narrow) if small else "medium")


def _height(axes: Axes, setting: Setting) -> None:
    """An accuracy stays within 0 and 1, whatever its interval; a wide range of losses is logged."""
    low, high = axes.get_ylim()
    if setting.metric == ACCURACY:
        axes.set_ylim(max(low, -0.02), min(high, 1.02))
    elif low > 0 and high / low > 2 * DECADE:
        axes.set_yscale("log")


def _apart(
    cell: Cell, curves: Mapping[str, Sequence[Cell]], lams: Sequence[float], part: float
) -> float:
    """Where to draw a cell: methods of one lambda side by side, so that all error bars show.

    `part` is the distance between neighbours as a part of the axis.
    """
    beside = [
        m for m, cells in curves.items() if cell.effective_lam in {c.effective_lam for c in cells}
    ]
    gaps = [math.log10(b / a) for a, b in itertools.pairwise(lams)] or [1.0]
    step = min(0.15 * min(gaps), part * math.log10(lams[-1] / lams[0]))
    place = beside.index(cell.method) - (len(beside) - 1) / 2
    return cell.effective_lam * math.pow(DECADE, step * place)


def _baseline(axes: Axes, setting: Setting, cell: Cell) -> None:
    """lambda = 0 has no place on a logarithmic axis: a line and a band across."""
    number = cell.interval(setting.metric)
    look = {key: value for key, value in look_of(cell.method).items() if key != "marker"}
    label = cell.label if cell.method == "none" else f"{cell.label}, lambda = 0"
    axes.axhline(number.mean, label=label, **{**look, "linestyle": ":"})
    if number.half_width:
        axes.axhspan(number.low, number.high, color=look["color"], alpha=0.13, linewidth=0)


def _curve(axes: Axes, setting: Setting, cells: Sequence[Cell], x: Sequence[float]) -> None:
    """Mean and interval at each lambda; the best lambda's marker is filled."""
    if not cells:
        return
    look = look_of(cells[0].method)
    numbers = [cell.interval(setting.metric) for cell in cells]
    y = [number.mean for number in numbers]
    widths = [number.bar for number in numbers]
    axes.plot(
        x, y, label=cells[0].label, markerfacecolor="white", markersize=6, linewidth=1.5, **look
    )
    if any(widths):
        axes.errorbar(x, y, widths, fmt="none", ecolor=look["color"], elinewidth=1.3, capsize=2.5)
    best = setting.best(cells[0].method)
    for place, cell, height in zip(x, cells, y, strict=True):
        if cell is best:
            axes.plot(
                place,
                height,
                look["marker"],
                color=look["color"],
                markersize=7,
                markeredgewidth=2,
                zorder=5,
            )
            star(axes, place, cell.measured(setting.test_metric), look["color"])


def star(axes: Axes, place: float, test: Interval | None, colour: str) -> None:
    """Draws the test value of what was selected on validation, where there is one."""
    if test is not None and math.isfinite(test.mean):
        axes.plot(
            place, test.mean, "*", color=colour, markersize=11, markeredgecolor="white",
            markeredgewidth=0.7, zorder=6,
        )  # fmt: skip


def star_in_legend(axes: Axes, title: str) -> None:
    """Says what the stars of all methods are."""
    look: dict[str, Any] = {"color": "#555555", "linestyle": "", "marker": "*", "markersize": 11}
    axes.plot([], [], label=f"{title} at the best lambda", **look)


def look_of(method: str) -> dict[str, Any]:
    """The look of a method in every figure."""
    if method in drawing.LOOKS:
        return drawing.LOOKS[method]
    return {"color": EXTRA[sum(method.encode()) % len(EXTRA)], "linestyle": "-", "marker": "d"}


def legend(figure: Figure, panels: Iterable[Axes], columns: int = 5) -> None:
    """One legend above all panels, each label once."""
    found: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    columns = min(columns, len(found)) or 1
    look: dict[str, Any] = {"ncols": columns, "frameon": False, "handlelength": 2.5}
    figure.legend(list(found.values()), list(found), loc="outside upper center", **look)


def lambda_axis(axes: Axes, lams: Sequence[float], most: int) -> None:
    """A logarithmic axis labelled with the lambdas themselves, or the decades if they are many."""
    axes.set_xscale("log")
    decades = math.log10(lams[-1] / lams[0])
    gaps = [math.log10(b / a) for a, b in itertools.pairwise(lams)]
    if len(lams) <= most and all(gap >= decades / (1.5 * most) for gap in gaps):
        axes.xaxis.set_major_locator(FixedLocator(list(lams)))
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 4 else (1.0, 3.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def differences(setting: Setting, narrow: bool = False) -> Figure:
    """How much better one method is than another, each at its best, with the interval."""
    rows = [row for row in findings.pairs(setting) if row[2].interval.n]
    figure = drawing.new_figure(1.1 + (0.75 if narrow else 0.42) * len(rows), narrow)
    axes = drawing.tidy(figure.add_subplot())
    sign = 1 if setting.higher_is_better else -1
    pairs = [f"{a.label} over {b.label}" for a, b, _ in reversed(rows)]
    for height, (_, _, difference) in enumerate(reversed(rows)):
        number, clear = difference.interval, difference.verdict == "clear"
        colour = "#0072b2" if clear else "#777777"
        axes.errorbar(
            sign * number.mean, height, xerr=number.half_width, fmt="o", color=colour, capsize=3,
            markerfacecolor=colour if clear else "white", linewidth=1.6,
        )  # fmt: skip
        found = _verdict(difference)
        if narrow:
            found = f"{pairs[height]}:\n{found}"
        place = (0.0, height + 0.2) if narrow else (1.01, float(height))
        axes.annotate(
            found, place, va="bottom" if narrow else "center", fontsize=10, annotation_clip=False,
            xycoords=("axes fraction", "data"), bbox=BEHIND if narrow else None,
        )  # fmt: skip
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [""] * len(rows) if narrow else pairs)
    axes.set_ylim(-0.6, len(rows) - (0.1 if narrow else 0.4))
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(4 if narrow else 6))
    break_ = "\n" if narrow else " "
    better = "" if setting.higher_is_better else " (lower is better)"
    axes.set_xlabel(f"advantage of the first method in{break_}{setting.metric_title}{better}")
    return figure


def _verdict(difference: Difference) -> str:
    seeds = f"{difference.interval.n} seed{'s' if difference.interval.n > 1 else ''}"
    word = findings.VERDICTS[difference.verdict]
    return f"too few: {seeds}" if word == "too few seeds" else f"{word}, {seeds}"
