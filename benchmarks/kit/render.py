"""The page and the figure of a result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from benchmarks.kit.result import Goal, Result, Section

METHOD = (
    "[How it is measured, and the reasons for goals that are not met](../../docs/benchmarks.md)"
)
ACROSS = 3  # panels of a figure beside each other
BLUE, GREY = "#0072b2", "#777777"


def write(result: Result, folder: Path) -> None:
    """Writes the page, and the figure if there is one."""
    (folder / f"{result.name}.md").write_text(page(result), encoding="utf-8")
    if result.figure:
        draw(result).savefig(folder / f"{result.name}.png", dpi=110)


def page(result: Result) -> str:
    """Returns the page as Markdown."""
    origin = result.origin
    load = "" if origin.load is None else f", load average {origin.load:.1f} at the start"
    lines = [f"# {result.title}", f"{origin.machine}{load}: `{origin.command}`."]
    lines += [*([result.text] if result.text else []), f"{METHOD}."]
    if result.figure:
        lines.append(f"![{result.title}: {result.figure[0]}]({result.name}.png)")
    if result.goals:
        lines += ["## Goals", goals(result.goals)]
    return "\n\n".join([*lines, *map(table, result.sections)]) + "\n"


def table(section: Section) -> str:
    """Returns a section as Markdown."""
    heading = _rows([["", *section.columns]])
    rule = "|" + "---|" * (1 + len(section.columns))
    body = _rows(
        [name, *map(_cell, section.columns.values(), row)] for name, row in section.rows.items()
    )
    text = f"{section.text}\n\n" if section.text else ""
    return f"## {section.title}\n\n{text}{heading}\n{rule}\n{body}"


def goals(goals: Sequence[Goal]) -> str:
    """Returns the table of goals."""
    rows = []
    for one in goals:
        measured, limit = (
            f"{n:{one.format}} {one.unit}".rstrip() for n in (one.measured, one.limit)
        )
        sign = "over" if one.over else "under"
        rows.append([one.text, one.case, measured, f"{sign} {limit}", one.verdict])
    return f"| goal | case | measured | limit | verdict |\n|---|---|---|---|---|\n{_rows(rows)}"


def draw(result: Result) -> Canvas:
    """Returns the figure: a panel for each table with the column, a bar for each row."""
    panels = [_bars(s, result.figure) for s in result.sections if result.figure[0] in s.columns]
    labels = list(dict.fromkeys(row for panel in panels for row in panel.rows))
    across, down = min(ACROSS, len(panels)), math.ceil(len(panels) / ACROSS)
    canvas = Canvas(
        figsize=(2 + 3 * across, down * (0.7 + 0.2 * len(labels))), layout="constrained"
    )
    all_axes = list(canvas.subplots(down, across, sharey=True, squeeze=False).flat)
    for axes, panel in zip(all_axes, panels, strict=False):
        _draw_panel(axes, panel, labels)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    canvas.supxlabel(", line: ".join(result.figure), fontsize=9)
    return canvas


def _bars(section: Section, columns: Sequence[str]) -> Section:
    """Returns a table of some columns, without the rows that lack the first of them."""
    numbers = [list(section.columns).index(column) for column in columns]
    rows = {label: [row[n] for n in numbers] for label, row in section.rows.items()}
    rows = {label: row for label, row in rows.items() if row[0] is not None}
    return Section(section.title, {c: section.columns[c] for c in columns}, rows)


def _draw_panel(axes: Axes, panel: Section, labels: Sequence[str]) -> None:
    form = next(iter(panel.columns.values()))
    places = [labels.index(label) for label in panel.rows]
    values, *spreads = zip(*([v or 0.0 for v in row] for row in panel.rows.values()), strict=True)
    colours = [GREY if label.endswith(", again") else BLUE for label in panel.rows]
    errors = [width / 2 for width in spreads[0]] if spreads else None
    axes.barh(places, values, color=colours, xerr=errors, error_kw={"elinewidth": 0.8})
    for place, value in zip(places, values, strict=True):
        text, right = format(value, form), axes.get_yaxis_transform()
        axes.text(1.02, place, text, transform=right, va="center", fontsize=7)
    low, high = min(0.0, *values), max(0.0, *values)
    axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    axes.set_yticks(range(len(labels)), [label.replace("`", "") for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_title(panel.title, loc="left", fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _rows(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(form: str, value: float | None) -> str:
    return "" if value is None else format(value, form)
