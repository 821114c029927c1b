"""What all figures share: the look of each method, and how a figure becomes SVG or PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

# One look for each method, in every figure: the colours of Okabe and Ito, which colour-blind
# people tell apart, and a line style of its own for those who print in grey.
LOOKS: dict[str, dict[str, Any]] = {
    "none": {"color": "#777777", "linestyle": ":"},
    "builtin_l2": {"color": "#d55e00", "linestyle": "-", "marker": "o"},
    "builtin_half": {"color": "#e69f00", "linestyle": "--", "marker": "D"},
    "half_l2": {"color": "#0072b2", "linestyle": "-", "marker": "s"},
    "decoupled": {"color": "#009e73", "linestyle": "--", "marker": "^"},
    "coupled": {"color": "#cc79a7", "linestyle": "-.", "marker": "v"},
    "independent": {"color": "#56b4e9", "linestyle": "-.", "marker": "P"},
    "optimizer_weight_decay": {"color": "#000000", "linestyle": ":", "marker": "x"},
}


def new_figure(width: float = 9, height: float = 4.6) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def tidy(axes: Axes) -> Axes:
    """A light grid and no box."""
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def literal(figure: Figure) -> None:
    """Shows a `$` in names as it is: what studies and methods are called is no formula.

    What matplotlib itself writes as formulas, such as powers of ten, comes when it draws.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if "$" in text.get_text():
            text.set_parse_math(False)


def svg(figure: Figure, salt: str = "l2keras") -> str:
    """The figure as an <svg> element: the same figure, the same bytes."""
    literal(figure)
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]


def save(figure: Figure, folder: Path, name: str) -> str:
    """Writes `name`.svg and `name`.png; returns the <svg> element."""
    literal(figure)
    engine = figure.get_layout_engine()
    if engine is not None:  # once, instead of twice for each file
        engine.execute(figure)
        figure.set_layout_engine(None)
    element = svg(figure, salt=name)
    (folder / f"{name}.svg").write_text(f'<?xml version="1.0"?>\n{element}', encoding="utf-8")
    figure.savefig(folder / f"{name}.png", format="png", dpi=144, pil_kwargs={"compress_level": 1})
    return element
