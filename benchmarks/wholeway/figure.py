"""Where the time goes, as bars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from experiments import drawing

# Okabe and Ito's, as in every figure.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#777777")


def draw(bars: Mapping[str, Mapping[str, float]], folder: Path, name: str) -> None:
    """One bar for each run, each on its own axis of seconds; from seconds by group of phases."""
    groups = list(dict.fromkeys(group for bar in bars.values() for group in bar))
    colours = dict(zip(groups, COLOURS, strict=False))
    figure = drawing.new_figure(9, 1.2 + 1.1 * len(bars))
    for number, (title, bar) in enumerate(bars.items(), 1):
        axes = figure.add_subplot(len(bars), 1, number)
        _draw_bar(axes, bar, colours)
        axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("seconds", fontsize=8)
    handles = [Patch(color=colour) for colour in colours.values()]
    figure.legend(handles, groups, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.savefig(folder / f"{name}.png", dpi=110)


def _draw_bar(axes: Axes, bar: Mapping[str, float], colours: Mapping[str, str]) -> None:
    whole, left = sum(bar.values()), 0.0
    for group, seconds in bar.items():
        axes.barh(0, seconds, left=left, color=colours[group], edgecolor="white")
        if seconds > 0.06 * whole:
            axes.text(left + seconds / 2, 0, f"{seconds:.2f}", ha="center", va="center",
                      color="white", fontsize=8)  # fmt: skip
        left += seconds
    axes.set_xlim(0, whole)
    axes.set_yticks([])
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
