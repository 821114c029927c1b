"""The looks and sizes that all figures share, and how a figure becomes SVG or PNG.

A figure for a page is drawn twice, for wide windows and for phones. Text of 10 points has at least
11 pixels in both: the narrow drawing is enlarged on a phone, the wide one is not shown there.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from l2keras_experiments.config import methods

# One look for each method, in every figure; the line style is for those who print in grey.
_LINES: dict[str, dict[str, Any]] = {
    "none": {"linestyle": ":"},
    "builtin_l2": {"linestyle": "-", "marker": "o"},
    "builtin_half": {"linestyle": "--", "marker": "D"},
    "half_l2": {"linestyle": "-", "marker": "s"},
    "decoupled": {"linestyle": "--", "marker": "^"},
    "coupled": {"linestyle": "-.", "marker": "v"},
    "independent": {"linestyle": "-.", "marker": "P"},
    "optimizer_weight_decay": {"linestyle": ":", "marker": "x"},
}
LOOKS = {name: {"color": methods.COLORS[name], **line} for name, line in _LINES.items()}


WIDE, NARROW = 9.0, 4.2  # inches


def new_figure(height: float = 4.6, narrow: bool = False) -> Figure:
    return Figure(figsize=(NARROW if narrow else WIDE, height), layout="constrained")


def small(narrow: bool) -> str | float:
    """The size of the smaller texts; on a phone they are hardly smaller than the others."""
    return 9.5 if narrow else "small"


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


def lay_out(figure: Figure) -> None:
    """Finds the places of everything once, instead of twice for each file that is written."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def svg(figure: Figure, salt: str = "l2keras") -> str:
    """The figure as an <svg> element: the same figure, the same bytes."""
    literal(figure)
    lay_out(figure)
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]


def save(figure: Figure, folder: Path, name: str) -> str:
    """Writes `name`.svg and `name`.png; returns the <svg> element."""
    element = svg(figure, salt=name)
    (folder / f"{name}.svg").write_text(f'<?xml version="1.0"?>\n{element}', encoding="utf-8")
    figure.savefig(folder / f"{name}.png", format="png", dpi=144, pil_kwargs={"compress_level": 1})
    return element
