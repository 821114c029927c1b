"""The figure of a study that shows how training went. A pure function of the histories."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l2keras_experiments.reports import drawing, statistics
from l2keras_experiments.reports.figures.results import DECADE, legend, look_of
from l2keras_experiments.reports.records import History
from l2keras_experiments.reports.study import Cell

PANELS = {
    "data_loss": "training data loss",
    "val_data_loss": "validation data loss",
    "penalty": "penalty: lambda/2 * ||W||^2",
    "weight_norm": "||W|| of the decayed weights",
}
Histories = Mapping[tuple[str, str], History]


def curves(cells: Sequence[Cell], histories: Histories, narrow: bool = False) -> Figure:
    """Data losses, penalty and norm over the epochs, the mean over seeds with its interval."""
    figure = drawing.new_figure(11.0 if narrow else 6.4, narrow)
    grid = figure.subplots(4 if narrow else 2, 1 if narrow else 2, sharex=True, squeeze=False)
    for axes, (metric, title) in zip(grid.flat, PANELS.items(), strict=True):
        drawing.tidy(axes).set_title(title, fontsize="medium", loc="left")
        for index, cell in enumerate(cells):
            _curve(axes, cell, over_seeds(cell, metric, histories), index, len(cells))
        _scale(axes)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _same_height(list(grid.flat)[:2])
    legend(figure, grid.flat, 1 if narrow else 2)
    return figure


def over_seeds(cell: Cell, metric: str, histories: Histories) -> dict[int, statistics.Interval]:
    """By epoch, counted from 1: the interval over the seeds, at epochs that all of them have."""
    found = [histories.get((record.id, metric), {}) for record in cell.runs.values()]
    steps = sorted(set.intersection(*(set(history) for history in found)))
    return {step + 1: statistics.interval([h[step] for h in found]) for step in steps}


def _curve(
    axes: Axes,
    cell: Cell,
    points: Mapping[int, statistics.Interval],
    index: int,
    count: int,
) -> None:
    """Draws one of `count` methods: the markers of each are smaller and later than those before."""
    shown = {epoch: number for epoch, number in points.items() if math.isfinite(number.mean)}
    if not shown:
        return
    look = look_of(cell.method)
    at = [f"lambda {cell.effective_lam:.3g}"] if cell.effective_lam else []
    label = ", ".join([cell.label, *at, f"rate {cell.learning_rate:.3g}"])
    every = max(1, len(shown) // 8)
    numbers = list(shown.values())
    means = [number.mean for number in numbers]
    axes.plot(
        list(shown), means, label=label, markevery=(index * every // count, every),
        markersize=4 + 2 * (count - 1 - index), markerfacecolor="none", linewidth=1.5, **look,
    )  # fmt: skip
    low, high = [number.low for number in numbers], [number.high for number in numbers]
    axes.fill_between(list(shown), low, high, color=look["color"], alpha=0.15, linewidth=0)


def _scale(axes: Axes) -> None:
    """Logarithmic where the means span more than a decade and a half."""
    values = np.concatenate([np.zeros(1), *(np.asarray(line.get_ydata()) for line in axes.lines)])
    positive = values[values > 0]
    if len(positive) and positive.max() / positive.min() > 3 * DECADE:
        axes.set_yscale("log")
        axes.set_ylim(positive.min() / 1.3, positive.max() * 1.3)


def _same_height(panels: Sequence[Axes]) -> None:
    """Training and validation loss on one scale, so that the gap can be seen."""
    if len({axes.get_yscale() for axes in panels}) == 1:
        limits = [limit for axes in panels for limit in axes.get_ylim()]
        for axes in panels:
            axes.set_ylim(min(limits), max(limits))
