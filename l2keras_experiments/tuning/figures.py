"""Figures of a study: how the search went, and the objective over each key searched."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from l2keras_experiments.reports import drawing
from l2keras_experiments.tuning.search import Tried
from l2keras_experiments.tuning.space import LAM, RATE

LABELS = {LAM: "lambda as written", RATE: "learning rate"}
_PRUNED = "pruned, at its last epoch"
_STYLES: dict[str, dict[str, Any]] = {
    "complete": {"color": "#0072b2", "marker": "o", "label": "complete"},
    "pruned": {"color": "#777777", "marker": "o", "facecolors": "none", "label": _PRUNED},
}
_OFF: dict[str, Any] = {"color": "#d55e00", "marker": "x", "label": "diverged, or off the scale"}
_SCALE = 100.0  # how many times the lowest value is still drawn


@dataclass(frozen=True)
class Drawn:
    """A figure in both formats; `name` is that of its files."""

    name: str
    svg: str
    png: bytes


def figures(trials: Sequence[Tried]) -> list[Drawn]:
    """The history of the search, and a slice for each key searched."""
    keys = sorted({key for trial in trials for key in trial.params})
    slices = [over(trials, key) for key in keys]
    return [history(trials), *slices]


def history(trials: Sequence[Tried]) -> Drawn:
    """The objective of each trial in the order of the search, and the best so far."""
    figure, axes = _figure(trials)
    off = _scatter(axes, trials, lambda trial: float(trial.number))
    shown = [trial for trial in trials if trial.state == "complete" and trial not in off]
    if shown:
        best = list(itertools.accumulate(shown, _better))
        numbers, values = [trial.number for trial in shown], [trial.value for trial in best]
        axes.step([*numbers, trials[-1].number], [*values, values[-1]], where="post",
                  color="#0072b2", label="best so far")  # fmt: skip
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _drawn("tuning_history", figure, axes)


def _better(one: Tried, other: Tried) -> Tried:
    return min(one, other, key=lambda trial: trial.cost)


def over(trials: Sequence[Tried], key: str) -> Drawn:
    """The objective over one of the keys searched."""
    figure, axes = _figure(trials)
    _scatter(axes, [t for t in trials if key in t.params], lambda trial: trial.params[key])
    complete = [trial for trial in trials if trial.state == "complete"]
    if complete:
        best = min(complete, key=lambda trial: trial.cost)
        axes.axvline(best.params[key], color="#0072b2", linestyle=":",
                     label=f"best: {best.params[key]:.3g}")  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel(LABELS[key])
    return _drawn(f"tuning_over_{'lambda' if key == LAM else 'learning_rate'}", figure, axes)


def _scatter(
    axes: Axes, trials: Sequence[Tried], position: Callable[[Tried], float]
) -> list[Tried]:
    """The trials by how they ended; returns those off the scale, drawn at its upper edge."""
    ended = [trial for trial in trials if trial.state in (*_STYLES, "diverged")]
    lowest = min((trial.value for trial in ended), default=math.inf)
    is_cost = not any(trial.objective.higher_is_better for trial in trials)
    limit = _SCALE * lowest if lowest > 0 and is_cost else math.inf
    off = [trial for trial in ended if not (math.isfinite(trial.value) and trial.value <= limit)]
    for state, style in _STYLES.items():
        chosen = [trial for trial in ended if trial.state == state and trial not in off]
        if chosen:
            axes.scatter([position(t) for t in chosen], [t.value for t in chosen], **style)
    if off:
        edge = axes.get_xaxis_transform()  # x as the data, y from 0 to 1
        heights = [1.0] * len(off)
        axes.scatter([position(t) for t in off], heights, transform=edge, clip_on=False, **_OFF)
    if is_cost and 0 < lowest < math.inf:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))  # not 3 x 10^-1
    return off


def _figure(trials: Sequence[Tried]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel(trials[0].objective.metric if trials else "")
    return figure, axes


def _drawn(name: str, figure: Figure, axes: Axes) -> Drawn:
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    svg, png = drawing.svg(figure), io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    return Drawn(name, svg, png.getvalue())
