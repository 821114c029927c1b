"""The figures of a study that show what came out. Pure functions of its settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from experiments import drawing, findings
from experiments.study import Cell, Setting

COLUMNS = 3  # panels side by side
NUMBERS = 60  # a heat map with more cells than these is not written full of numbers
DECADE = 10.0
EXTRA = ["#d55e00", "#56b4e9", "#cc79a7", "#e69f00"]  # methods that have no look of their own


def isolation(settings: Sequence[Setting]) -> Figure:
    """The metric over lambda: for each method and lambda the best learning rate; a panel a setting."""
    columns = min(COLUMNS, len(settings))
    rows = math.ceil(len(settings) / columns)
    figure = drawing.new_figure(9, 4.8 if rows == columns == 1 else 0.8 + 2.9 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=len(_metrics(settings)) == 1)
    for axes, setting in itertools.zip_longest(grid.flat, settings):
        if setting is None:
            axes.set_visible(False)
        else:
            _isolation_panel(drawing.tidy(axes), setting, small=len(settings) > 1)
    for axes in grid[:, 0]:
        axes.set_ylabel(_metrics(settings)[0])
    legend(figure, grid.flat)
    return figure


def _metrics(settings: Sequence[Setting]) -> list[str]:
    return sorted({setting.metric for setting in settings})


def _isolation_panel(axes: Axes, setting: Setting, small: bool) -> None:
    curves = {method: setting.isolation(method) for method in setting.methods}
    lams = sorted({c.effective_lam for cells in curves.values() for c in cells} - {0.0})
    moved = _dodges(list(curves), lams)
    for method, cells in curves.items():
        for cell in (c for c in cells if not c.effective_lam):
            _baseline(axes, setting, cell)
        _curve(axes, setting, [c for c in cells if c.effective_lam], moved[method])
    if lams:
        lambda_axis(axes, lams, most=5 if small else 10)
    axes.set_xlabel("lambda (coefficient of W in the gradient)" if not small else "lambda")
    axes.set_title(setting.label, fontsize="medium")
    low, high = axes.get_ylim()
    if not setting.higher_is_better and low > 0 and high / low > 2 * DECADE:
        axes.set_yscale("log")


def _dodges(methods: Sequence[str], lams: Sequence[float]) -> dict[str, float]:
    """A factor on lambda for each method, so that error bars at one lambda do not cover each other."""
    gaps = [math.log10(b / a) for a, b in itertools.pairwise(lams)] or [1.0]
    step = min(0.08 * sorted(gaps)[len(gaps) // 2], 0.05)
    lined = [method for method in methods if method != "none"]
    middle = (len(lined) - 1) / 2
    places = {method: (i - middle) * step for i, method in enumerate(lined)}
    return {method: DECADE ** places.get(method, 0.0) for method in methods}


def _baseline(axes: Axes, setting: Setting, cell: Cell) -> None:
    """lambda = 0 has no place on a logarithmic axis: a line and a band across."""
    number = cell.interval(setting.metric)
    look = {key: value for key, value in look_of(cell.method).items() if key != "marker"}
    label = "none" if cell.method == "none" else f"{cell.method}, lambda = 0"
    axes.axhline(number.mean, label=label, **{**look, "linestyle": ":"})
    if number.half_width:
        axes.axhspan(number.low, number.high, color=look["color"], alpha=0.13, linewidth=0)


def _curve(axes: Axes, setting: Setting, cells: Sequence[Cell], moved: float) -> None:
    """Mean and interval at each lambda; the best lambda's marker is filled."""
    if not cells:
        return
    look = look_of(cells[0].method)
    numbers = [cell.interval(setting.metric) for cell in cells]
    x = [cell.effective_lam * moved for cell in cells]
    y = [number.mean for number in numbers]
    widths = [number.half_width or 0.0 for number in numbers]
    shown = {"markerfacecolor": "white", "markersize": 6, "linewidth": 1.5}
    axes.plot(x, y, label=cells[0].method, **look, **shown)
    if any(widths):
        axes.errorbar(x, y, widths, fmt="none", ecolor=look["color"], elinewidth=1.3, capsize=2.5)
    best = setting.best(cells[0].method)
    for place, cell, height in zip(x, cells, y, strict=True):
        if cell is best:
            axes.plot(place, height, look["marker"], color=look["color"], markersize=7, zorder=5)


def look_of(method: str) -> dict[str, Any]:
    """The look of a method in every figure."""
    if method in drawing.LOOKS:
        return drawing.LOOKS[method]
    return {"color": EXTRA[sum(method.encode()) % len(EXTRA)], "linestyle": "-", "marker": "d"}


def legend(figure: Figure, panels: Iterable[Axes], columns: int = 5) -> None:
    """One legend above all panels, each label once."""
    found = {}
    for axes in panels:
        found |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    columns = min(columns, len(found)) or 1
    figure.legend(
        list(found.values()),
        list(found),
        loc="outside upper center",
        ncols=columns,
        frameon=False,
        handlelength=3,
    )


def lambda_axis(axes: Axes, lams: Sequence[float], most: int) -> None:
    """A logarithmic axis labelled with the lambdas themselves, or the decades if they are many."""
    axes.set_xscale("log")
    decades = math.log10(lams[-1] / lams[0])
    gaps = [math.log10(b / a) for a, b in itertools.pairwise(lams)]
    if len(lams) <= most and all(gap >= decades / (1.5 * most) for gap in gaps):
        axes.xaxis.set_major_locator(FixedLocator(list(lams)))
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def heat_map(setting: Setting) -> Figure:
    """Learning rate over lambda, one panel a method; the best cell is framed."""
    methods = with_grid(setting)
    columns = min(COLUMNS, len(methods))
    rows = math.ceil(len(methods) / columns)
    figure = drawing.new_figure(9, 0.6 + rows * (1.2 + 0.36 * len(setting.learning_rates)))
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    low, high = _shades(setting, methods)
    image = None
    for axes, method in itertools.zip_longest(grid.flat, methods):
        if method is None:
            axes.set_visible(False)
        else:
            image = _heat_panel(axes, setting, method, low, high)
    for axes in grid[:, 0]:
        axes.set_ylabel("learning rate")
    extend = "min" if setting.higher_is_better else "max"
    figure.colorbar(image, ax=grid, label=setting.metric, extend=extend, shrink=0.9, pad=0.01)
    return figure


def with_grid(setting: Setting) -> list[str]:
    """The methods with more than one lambda and more than one learning rate."""
    return [
        method
        for method in setting.methods
        if len({c.lam for c in setting.of(method)}) > 1
        and len({c.learning_rate for c in setting.of(method)}) > 1
    ]


def _shades(setting: Setting, methods: Sequence[str]) -> tuple[float, float]:
    """The range of the colours: the worst fifth of the cells shares the last one."""
    means = [c.interval(setting.metric).mean for method in methods for c in setting.of(method)]
    finite = [mean for mean in means if math.isfinite(mean)] or [0.0]
    if setting.higher_is_better:
        return float(np.quantile(finite, 0.2)), max(finite)
    return min(finite), float(np.quantile(finite, 0.8))


def _heat_panel(axes: Axes, setting: Setting, method: str, low: float, high: float) -> Any:
    cells = setting.of(method)
    lams, rates = sorted({cell.lam for cell in cells}), setting.learning_rates
    means = np.full((len(rates), len(lams)), math.nan)
    for cell in cells:
        place = rates.index(cell.learning_rate), lams.index(cell.lam)
        means[place] = cell.interval(setting.metric).mean
        if means.size <= NUMBERS:
            _write(axes, place, means[place], dark=_is_dark(setting, means[place], low, high))
    colours = "cividis" if setting.higher_is_better else "cividis_r"
    image = axes.imshow(
        means,
        cmap=colours,
        vmin=low,
        vmax=high,
        aspect="auto",
        origin="lower",
        interpolation="none",
    )
    best = setting.best(method)
    if best is not None:
        corner = lams.index(best.lam) - 0.5, rates.index(best.learning_rate) - 0.5
        frame = Rectangle(corner, 1, 1, fill=False, edgecolor="#d55e00", linewidth=2.5, zorder=4)
        axes.add_patch(frame).set_clip_on(False)
    labels, name = _columns(cells, lams)
    axes.set_xticks(range(len(lams)), labels, rotation=45 if len(lams) > 6 else 0)
    axes.set_yticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_xlabel(name)
    axes.set_title(method, fontsize="medium")
    return image


def _columns(cells: Sequence[Cell], lams: Sequence[float]) -> tuple[list[str], str]:
    """The effective lambdas, or what was written where those depend on the learning rate."""
    effective = [{c.effective_lam for c in cells if c.lam == lam} for lam in lams]
    if all(len(found) == 1 for found in effective):
        return [f"{found.pop():g}" for found in effective], "lambda"
    return [f"{lam:g}" for lam in lams], "lambda as written"


def _is_dark(setting: Setting, mean: float, low: float, high: float) -> bool:
    part = (mean - low) / (high - low) if high > low else 0.5
    return (part if setting.higher_is_better else 1 - part) < 0.5


def _write(axes: Axes, place: tuple[int, int], mean: float, dark: bool) -> None:
    text = f"{mean:.3g}" if math.isfinite(mean) else "diverged"
    colour = "white" if dark and math.isfinite(mean) else "black"
    axes.text(place[1], place[0], text, ha="center", va="center", fontsize=8, color=colour)


def differences(setting: Setting) -> Figure:
    """How much better one method is than another, each at its best, with the interval."""
    rows = [row for row in findings.pairs(setting) if row[2].interval.n]
    figure = drawing.new_figure(9, 1.1 + 0.34 * len(rows))
    axes = drawing.tidy(figure.add_subplot())
    sign = 1 if setting.higher_is_better else -1
    for height, (_, _, difference) in enumerate(reversed(rows)):
        number, clear = difference.interval, difference.verdict == "clear"
        colour = "#0072b2" if clear else "#777777"
        axes.errorbar(
            sign * number.mean, height, xerr=number.half_width, fmt="o", color=colour, capsize=3,
            markerfacecolor=colour if clear else "white", linewidth=1.6,
        )  # fmt: skip
        seeds = f"{number.n} seed{'s' if number.n > 1 else ''}"
        axes.annotate(
            f"{difference.verdict}, {seeds}", (1.01, height), va="center", fontsize=9,
            xycoords=("axes fraction", "data"), color=colour, annotation_clip=False,
        )  # fmt: skip
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{a.method} over {b.method}" for a, b, _ in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(visible=False, axis="y")
    unit = "higher" if setting.higher_is_better else "lower"
    axes.set_xlabel(f"{setting.metric}: how much {unit} the first is, seed by seed")
    return figure
