"""Figures of a comparison as SVG text. Pure functions of its results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l2keras_experiments.config import methods
from l2keras_experiments.reports import drawing
from l2keras_experiments.reports.comparison.arms import REFERENCE, ArmResult, best, of
from l2keras_experiments.reports.drawing import LOOKS
from l2keras_experiments.reports.figures.results import legend, star, star_in_legend
from l2keras_experiments.reports.statistics import interval

# Hollow markers of many sizes, so that coinciding curves all show.
SIZES = {
    "builtin_l2": 6,
    "builtin_half": 12,
    "half_l2": 6,
    "decoupled": 11,
    "coupled": 15,
    "optimizer_weight_decay": 8,
}
FLOOR = 1e-17  # where a distance of exactly zero is drawn on a logarithmic axis


def accuracy_over_lambda(
    results: Sequence[ArmResult], lams: Sequence[float], narrow: bool = False
) -> str:
    """The validation score of each method over the number that the user writes as lambda.

    A star is the test value of the lambda that a method scores best at.
    """
    figure, axes = _figure(narrow)
    for name in LOOKS:
        chosen = of(results, name, lams)
        if chosen:
            axes.plot([r.arm.lam for r in chosen], [r.validated for r in chosen], **_look(name))
            lam, _ = best([r.arm.lam for r in chosen], [r.score for r in chosen])
            for selected in (r for r in chosen if r.arm.lam == lam):
                star(axes, lam, interval([selected.tested]), LOOKS[name]["color"])
    for baseline in (r for r in results if r.arm.name == "none"):
        axes.axhline(baseline.validated, label=methods.label("none"), **LOOKS["none"])
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(lams), [f"{lam:g}" for lam in lams])
    axes.set_xlabel("lambda as written")
    what = results[0].metric.replace("_", " ")
    if any(math.isfinite(r.tested) for r in results):
        star_in_legend(axes, f"test {what}")
    axes.set_ylabel(f"validation {what}")
    return _svg(figure, axes, narrow)


def distance_over_steps(
    results: Sequence[ArmResult], lam: float, tolerance: float, narrow: bool = False
) -> str:
    """The distance of each method's weights from HalfL2's at the same lambda, over the steps."""
    figure, axes = _figure(narrow)
    for result in _at(results, lam):
        if result.distances is None or result.arm.name == REFERENCE:
            continue
        steps = [i * result.steps_per_epoch for i in range(len(result.distances))]
        heights = [max(float(d), FLOOR) if math.isfinite(d) else math.nan for d in result.distances]
        axes.plot(steps, heights, **_look(result.arm.name, len(steps)))
    axes.axhspan(FLOOR, tolerance, color="#999999", alpha=0.2, linewidth=0, zorder=0)
    axes.text(0, tolerance / 2, " equal up to rounding", va="top", color="#555555")
    axes.set_yscale("log")
    axes.set_ylim(bottom=FLOOR)
    axes.set_xlabel("step")
    axes.set_ylabel(f"||W - W_HalfL2|| / ||W_HalfL2||, lambda = {lam:g}")
    return _svg(figure, axes, narrow)


def norm_over_steps(results: Sequence[ArmResult], lam: float, narrow: bool = False) -> str:
    """The norm of the decayed weights over the steps."""
    figure, axes = _figure(narrow)
    for result in _at(results, lam):
        norms = result.history["weight_norm"]
        steps = [(i + 1) * result.steps_per_epoch for i in range(len(norms))]
        axes.plot(steps, norms, **_look(result.arm.name, len(steps)))
    axes.set_xlabel("step")
    axes.set_ylabel(f"||W|| of the decayed weights, lambda = {lam:g}")
    axes.set_ylim(bottom=0)
    return _svg(figure, axes, narrow)


def _at(results: Sequence[ArmResult], lam: float) -> list[ArmResult]:
    found = {r.arm.name: r for r in results if r.arm.lam in (0.0, lam)}
    return [found[name] for name in LOOKS if name in found]


def _look(name: str, points: int = 1) -> dict[str, Any]:
    """The style of a method, with at most about eight markers on a curve."""
    look = {"label": methods.label(name), "markerfacecolor": "none", **LOOKS[name]}
    return {**look, "markersize": SIZES.get(name), "markevery": max(1, points // 8)}


def _figure(narrow: bool) -> tuple[Figure, Axes]:
    figure = drawing.new_figure(5.4 if narrow else 4.6, narrow)
    return figure, drawing.tidy(figure.add_subplot())


def _svg(figure: Figure, axes: Axes, narrow: bool) -> str:
    if narrow:
        legend(figure, [axes], columns=1)
    else:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return drawing.svg(figure, salt="narrow" if narrow else "l2keras")
