"""The figure of a study that shows learning rate times lambda. A pure function of a setting."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from l2keras_experiments.config import methods
from l2keras_experiments.reports import drawing
from l2keras_experiments.reports.figures.results import COLUMNS
from l2keras_experiments.reports.study import Cell, Setting

WIDE, NARROW = 20, 6  # columns of numbers that have room side by side
NUMBERS = 120  # a figure with more cells shows colours only


def with_grid(setting: Setting) -> list[str]:
    """The methods that have a grid of lambdas and learning rates."""
    return [method for method in setting.methods if setting.has_grid(method)]


def heat_map(setting: Setting, narrow: bool = False) -> Figure:
    """The metric over learning rate and lambda, one panel a method; the best cell is framed."""
    chosen = with_grid(setting)
    most = max(len({cell.lam for cell in setting.of(method)}) for method in chosen)
    columns = 1 if narrow else min(WIDE // max(most, 1) or 1, COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    height = 0.6 + rows * (1.2 + 0.36 * len(setting.learning_rates))
    figure = drawing.new_figure(height, narrow)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    shades = _shades(setting, chosen)
    count = sum(len(setting.of(method)) for method in chosen)
    numbers = most <= (NARROW if narrow else WIDE) and count <= NUMBERS
    for axes, method in itertools.zip_longest(grid.flat, chosen):
        if method is None:
            axes.set_visible(False)
        else:
            _panel(axes, setting, method, shades, numbers, narrow)
    for axes in grid[:, 0]:
        axes.set_ylabel("learning rate")
    extend = "min" if setting.higher_is_better else "max"
    figure.colorbar(
        shades, ax=grid, label=setting.metric_title, extend=extend, pad=0.01, aspect=12 * rows
    )
    return figure


def _shades(setting: Setting, chosen: Sequence[str]) -> ScalarMappable:
    """Bright is good; the worst fifth of the cells shares the darkest colour."""
    means = [c.interval(setting.metric).mean for method in chosen for c in setting.of(method)]
    finite = [mean for mean in means if math.isfinite(mean)] or [0.0]
    if setting.higher_is_better:
        return ScalarMappable(Normalize(float(np.quantile(finite, 0.2)), max(finite)), "cividis")
    return ScalarMappable(Normalize(min(finite), float(np.quantile(finite, 0.8))), "cividis_r")


def _panel(
    axes: Axes,
    setting: Setting,
    method: str,
    shades: ScalarMappable,
    numbers: bool,
    narrow: bool,
) -> None:
    cells = setting.of(method)
    lams, rates = sorted({cell.lam for cell in cells}), setting.learning_rates
    means = np.full((len(rates), len(lams)), math.nan)
    for cell in cells:
        row, column = rates.index(cell.learning_rate), lams.index(cell.lam)
        means[row, column] = cell.interval(setting.metric).mean
        if numbers:
            text = f"{means[row, column]:{'.3f' if setting.higher_is_better else '.3g'}}"
            _write(axes, column, row, text, shades, 9.5 if narrow else 7.5)
    image = axes.imshow(means, cmap=shades.cmap, aspect="auto", origin="lower")
    image.set_clim(*shades.get_clim())
    best = setting.best(method)
    if best is not None:
        corner = lams.index(best.lam) - 0.5, rates.index(best.learning_rate) - 0.5
        frame = Rectangle(corner, 1, 1, fill=False, edgecolor="#d55e00", linewidth=2.5, zorder=4)
        axes.add_patch(frame).set_clip_on(False)
    labels, name = _columns(cells, lams)
    many = len(" ".join(labels)) > 30  # characters below a panel
    turned: dict[str, Any] = (
        {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if many else {}
    )
    every = math.ceil(len(lams) / (2 * NARROW if narrow else WIDE))
    size = drawing.small(narrow)
    axes.set_xticks(range(0, len(lams), every), labels[::every], fontsize=size, **turned)
    axes.set_yticks(range(len(rates)), [f"{rate:.3g}" for rate in rates])
    axes.set_xlabel(name)
    axes.set_title(methods.label(method), fontsize="medium")


def _columns(cells: Sequence[Cell], lams: Sequence[float]) -> tuple[list[str], str]:
    """The effective lambdas, or what was written where those depend on the learning rate."""
    effective = [{c.effective_lam for c in cells if c.lam == lam} for lam in lams]
    if all(len(found) == 1 for found in effective):
        return [f"{found.pop():.3g}" for found in effective], "lambda"
    return [f"{lam:.3g}" for lam in lams], "lambda as written"


def _write(
    axes: Axes, column: int, row: int, text: str, shades: ScalarMappable, size: float
) -> None:
    """The mean, bright on a dark colour; not black or white, which a page replaces in dark mode."""
    red, green, blue, _ = shades.to_rgba(np.array(float(text)))
    light = text == "nan" or 0.3 * red + 0.6 * green + 0.1 * blue > 0.5
    shown = text.replace("nan", "diverged")
    colour = "#010101" if light else "#fefefe"
    written = axes.text(column, row, shown, ha="center", va="center", fontsize=size, color=colour)
    written.set_in_layout(False)  # it is inside the axes; measuring hundreds takes a second
