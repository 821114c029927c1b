"""The figure of a study that shows what stays when batches or training grow. A pure function."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import drawing
from experiments.study import Cell, Setting, Study
from experiments.study_plots import lambda_axis, legend

LENGTHS = {"training.batch_size", "training.epochs"}  # what makes a timescale another lambda
MARKERS = "osD^vP"
AXES: dict[str, Callable[[Cell], float]] = {
    "lambda": lambda cell: cell.effective_lam,
    "timescale 1/(eta*lambda), in epochs": lambda cell: cell.timescale,
}


def asked(study: Study) -> bool:
    """Whether the study varies the batch size or the length, and has timescales to show."""
    return bool(LENGTHS & set(study.varying)) and any(map(curve, study.settings))


def curve(setting: Setting) -> list[Cell]:
    """The cells of the best method at its best learning rate, by lambda, without lambda = 0."""
    if not setting.leaders:
        return []
    best = setting.leaders[0]
    same = [c for c in setting.of(best.method) if c.learning_rate == best.learning_rate]
    return sorted((c for c in same if not math.isnan(c.timescale)), key=lambda c: c.lam)


def timescales(settings: Sequence[Setting]) -> Figure:
    """The metric over lambda and over the timescale; a curve a setting, its best cell filled."""
    shown = [(setting, curve(setting)) for setting in settings]
    shown = [(setting, cells) for setting, cells in shown if cells]
    figure = drawing.new_figure(9, 4.6)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, place) in zip(panels, AXES.items(), strict=True):
        drawing.tidy(axes).set_xlabel(name)
        for index, (setting, cells) in enumerate(shown):
            colour = colormaps["viridis"](index / len(shown))
            _curve(axes, setting, cells, place, (colour, MARKERS[index % len(MARKERS)]))
        lambda_axis(axes, sorted({place(cell) for _, cells in shown for cell in cells}), most=8)
    panels[0].set_ylabel(shown[0][0].metric)
    legend(figure, panels[:1], columns=2)
    return figure


def _curve(
    axes: Axes,
    setting: Setting,
    cells: Sequence[Cell],
    place: Callable[[Cell], float],
    look: tuple[object, str],
) -> None:
    colour, marker = look
    numbers = [cell.interval(setting.metric) for cell in cells]
    axes.errorbar(
        [place(cell) for cell in cells], [number.mean for number in numbers],
        [number.half_width or 0.0 for number in numbers], label=_label(setting, cells),
        color=colour, marker=marker, markerfacecolor="white", linewidth=1.5, capsize=2.5,
    )  # fmt: skip
    best = setting.best_of(cells)
    if best is not None:
        height = best.interval(setting.metric).mean
        axes.plot(place(best), height, marker, color=colour, markersize=8, zorder=5)


def _label(setting: Setting, cells: Sequence[Cell]) -> str:
    return f"{setting.label}, eta={cells[0].learning_rate:.3g}"
