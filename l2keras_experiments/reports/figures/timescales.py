"""The figure of a study that shows what stays when batches or training grow. A pure function."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l2keras_experiments.reports import drawing
from l2keras_experiments.reports.figures.results import lambda_axis, legend
from l2keras_experiments.reports.study import Cell, Setting, Study, names

LENGTHS = {"training.batch_size", "training.epochs"}  # what makes a timescale another lambda
MARKERS = "osD^vP"
COLOURS = tuple(look["color"] for name, look in drawing.LOOKS.items() if name != "none")
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


def timescales(settings: Sequence[Setting], narrow: bool = False) -> Figure:
    """The metric over lambda and over the timescale; a curve a setting, its best cell filled."""
    titles = {id(setting): name for setting, name in zip(settings, names(settings), strict=True)}
    shown = [(setting, curve(setting)) for setting in settings]
    shown = [(setting, cells) for setting, cells in shown if cells]
    # One axis has one metric: that of the first setting.
    shown = [(setting, cells) for setting, cells in shown if setting.metric == shown[0][0].metric]
    figure = drawing.new_figure(7.6 if narrow else 4.6, narrow)
    shape = (2, 1) if narrow else (1, 2)
    panels = list(figure.subplots(*shape, sharey=True, squeeze=False).flat)
    for axes, (name, place) in zip(panels, AXES.items(), strict=True):
        drawing.tidy(axes).set_xlabel(name)
        for index, (setting, cells) in enumerate(shown):
            look = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            label = f"{titles[id(setting)]}, eta={cells[0].learning_rate:.3g}"
            _curve(axes, setting, cells, place, label, look)
        places = sorted({place(cell) for _, cells in shown for cell in cells})
        lambda_axis(axes, places, most=6 if narrow else 8)
    for axes in panels if narrow else panels[:1]:
        axes.set_ylabel(shown[0][0].metric_title)
    legend(figure, panels[:1], 1 if narrow else 2)
    return figure


def _curve(
    axes: Axes,
    setting: Setting,
    cells: Sequence[Cell],
    place: Callable[[Cell], float],
    label: str,
    look: tuple[object, str],
) -> None:
    colour, marker = look
    numbers = [cell.interval(setting.metric) for cell in cells]
    axes.errorbar(
        [place(cell) for cell in cells], [number.mean for number in numbers],
        [number.bar for number in numbers], label=label,
        color=colour, marker=marker, markerfacecolor="white", linewidth=1.5, capsize=2.5,
    )  # fmt: skip
    best = setting.best_of(cells)
    if best is not None:
        height = best.interval(setting.metric).mean
        axes.plot(place(best), height, marker, color=colour, markersize=8, zorder=5)
