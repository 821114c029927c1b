"""Figures of a comparison as SVG text. Pure functions of its results."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.comparison import REFERENCE, TITLES, ArmResult, of

# One look for each method, in every figure; hollow markers so that coinciding curves all show.
STYLES: dict[str, dict[str, Any]] = {
    "none": {"color": "#777777", "linestyle": ":"},
    "builtin_l2": {"color": "#d55e00", "linestyle": "-", "marker": "o", "markersize": 6},
    "builtin_half": {"color": "#e69f00", "linestyle": "--", "marker": "D", "markersize": 12},
    "half_l2": {"color": "#0072b2", "linestyle": "-", "marker": "s", "markersize": 6},
    "decoupled": {"color": "#009e73", "linestyle": "--", "marker": "^", "markersize": 11},
    "coupled": {"color": "#cc79a7", "linestyle": "-.", "marker": "v", "markersize": 15},
    "optimizer_weight_decay": {
        "color": "#000000",
        "linestyle": ":",
        "marker": "x",
        "markersize": 8,
    },
}
FLOOR = 1e-17  # where a distance of exactly zero is drawn on a logarithmic axis


def accuracy_over_lambda(results: Sequence[ArmResult], lams: Sequence[float]) -> str:
    """The score of each method over the number that the user writes as lambda."""
    figure, axes = _figure()
    for name in STYLES:
        chosen = of(results, name, lams)
        if chosen:
            axes.plot([r.arm.lam for r in chosen], [abs(r.score) for r in chosen], **_look(name))
    for baseline in (r for r in results if r.arm.name == "none"):
        axes.axhline(abs(baseline.score), label=TITLES["none"], **STYLES["none"])
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(lams), [f"{lam:g}" for lam in lams])
    axes.set_xlabel("lambda as written")
    accuracy = any("val_accuracy" in r.history for r in results)
    axes.set_ylabel("test accuracy" if accuracy else "test data loss")
    return _svg(figure, axes)


def distance_over_steps(results: Sequence[ArmResult], lam: float, tolerance: float) -> str:
    """How far each method's weights are from HalfL2's at the same lambda, over the steps."""
    figure, axes = _figure()
    for result in _at(results, lam):
        if result.distances is None or result.arm.name == REFERENCE:
            continue
        steps = [i * result.steps_per_epoch for i in range(len(result.distances))]
        heights = [max(float(d), FLOOR) if math.isfinite(d) else math.nan for d in result.distances]
        axes.plot(steps, heights, **_look(result.arm.name, len(steps)))
    axes.axhspan(FLOOR, tolerance, color="#eeeeee", zorder=0)
    axes.text(0, tolerance / 2, " equal to rounding", va="top", color="#555555")
    axes.set_yscale("log")
    axes.set_ylim(bottom=FLOOR)
    axes.set_xlabel("step")
    axes.set_ylabel(f"||W - W_HalfL2|| / ||W_HalfL2||, lambda = {lam:g}")
    return _svg(figure, axes)


def norm_over_steps(results: Sequence[ArmResult], lam: float) -> str:
    """The norm of the decayed weights over the steps."""
    figure, axes = _figure()
    for result in _at(results, lam):
        norms = result.history["weight_norm"]
        steps = [(i + 1) * result.steps_per_epoch for i in range(len(norms))]
        axes.plot(steps, norms, **_look(result.arm.name, len(steps)))
    axes.set_xlabel("step")
    axes.set_ylabel(f"||W|| of the decayed weights, lambda = {lam:g}")
    axes.set_ylim(bottom=0)
    return _svg(figure, axes)


def _at(results: Sequence[ArmResult], lam: float) -> list[ArmResult]:
    found = {r.arm.name: r for r in results if r.arm.lam in (0.0, lam)}
    return [found[name] for name in STYLES if name in found]


def _look(name: str, points: int = 1) -> dict[str, Any]:
    """The style of a method, with at most about eight markers on a curve."""
    look: dict[str, Any] = {"label": TITLES[name], "markerfacecolor": "none", **STYLES[name]}
    return {**look, "markevery": max(1, points // 8)}


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure, axes: Axes) -> str:
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "l2keras"}):  # the same figure, the same bytes
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]
