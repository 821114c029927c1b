"""An audit report as text for a terminal and as HTML for a notebook. Pure functions of the data."""

from __future__ import annotations

import html
import shutil
import textwrap
from collections.abc import Callable, Sequence

from l2keras._audit.rows import Audited, Finding, Row

GROUPS = ("decayed", "not decayed", "frozen", "all")
_ABSENT = "-"
_UNKNOWN = "?"
_MAX_WIDTH = 140
_MIN_PATH = 16
_COLORS = {"error": "#c62828", "warning": "#b26a00", "info": "#1565c0"}

Column = tuple[str, Callable[[Row], str]]


def number(value: float | None) -> str:
    """Three digits, `1e-5` rather than `1e-05`; `-` for nothing, `?` for what is not known."""
    if value is None:
        return _UNKNOWN
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e") if value else _ABSENT


def _steps(value: float | None) -> str:
    if value is None:
        return _ABSENT
    return f"{value:,.0f}" if 10 <= value < 1e7 else number(value)


def _regularizer(row: Row) -> str:
    if row.lam_regularizer is None:
        return str(row.regularizer).partition("(")[0]
    l2 = number(row.lam_regularizer)
    return l2 if not row.l1 else f"{'' if l2 == _ABSENT else l2 + '+'}L1 {number(row.l1)}"


def _callbacks(row: Row) -> str:
    lams = [f"{number(decay.lam)}{'~' if decay.schedule else ''}" for decay in row.callbacks]
    return " + ".join(lams) or _ABSENT


def _lam(row: Row) -> str:
    return number(row.lam) if row.trainable else "frozen"


def _shrink(row: Row) -> str:
    return number(row.shrink) if row.decayed else _ABSENT


def columns(report: Audited) -> list[Column]:
    """Path, shape, and those of the other columns that say something about this model."""
    rows = report.rows
    chosen: list[tuple[str, Callable[[Row], str], bool]] = [
        ("variable", lambda row: row.path, True),
        ("shape", lambda row: "x".join(map(str, row.shape)) or "scalar", True),
        ("dtype", lambda row: row.dtype, len({row.dtype for row in rows}) > 1),
        ("regularizer", _regularizer, any(row.regularizer for row in rows)),
        ("optimizer", lambda row: number(row.lam_optimizer), any(r.lam_optimizer for r in rows)),
        ("callback", _callbacks, any(row.callbacks for row in rows)),
        ("lam", _lam, True),
        ("shrink", _shrink, any(row.shrink for row in rows)),
        ("steps", lambda row: _steps(row.timescale), any(row.shrink for row in rows)),
    ]
    return [(name, show) for name, show, wanted in chosen if wanted]


def _totals(report: Audited) -> list[list[str]]:
    totals = report.totals
    return [
        [name.capitalize(), f"{totals[name]['tensors']:,}", f"{totals[name]['parameters']:,}"]
        for name in GROUPS
    ]


def summary(report: Audited) -> str:
    """One line: the digest, the totals, the number of findings."""
    decayed, total = report.totals["decayed"], report.totals["all"]
    return (
        f"decay of {report.model!r}: digest {report.digest}, "
        f"{decayed['tensors']} of {total['tensors']} tensors decayed, "
        f"{decayed['parameters']:,} of {total['parameters']:,} parameters; "
        f"findings: {len(report.findings)}"
    )


def text(report: Audited, width: int | None = None, *, reasons: bool = False) -> str:
    """The whole report, at most `width` columns wide where the numbers leave a choice."""
    width = width or min(shutil.get_terminal_size().columns, _MAX_WIDTH)
    lines = [f"Decay of {report.model!r}   digest {report.digest}"]
    lines += [f"Optimizer: {line}" for line in report.optimizers]
    shown = columns(report)
    cells = [[show(row) for _, show in shown] for row in report.rows]
    lines += ["", *_table([name for name, _ in shown], cells, width)]
    lines += ["", *_reasons(report, width)] if reasons else []
    lines += [
        "",
        *_notes(report, width),
        *_table(["", "tensors", "parameters"], _totals(report), width),
    ]
    lines += ["", "Findings: " + ("none" if not report.findings else str(len(report.findings)))]
    for finding in report.findings:
        lines += _finding(finding, width)
    return "\n".join(line.rstrip() for line in lines)


def notes(report: Audited) -> list[str]:
    """What a reader of the columns has to know, where it applies."""
    shown = ["lam: coefficient of W in the gradient (half convention), all sources together."]
    if any(row.shrink for row in report.rows):
        shown.append("shrink: fraction of W lost per step, now; steps: 1 / that.")
    if any(row.decayed and row.shrink is None and row.learning_rate for row in report.rows):
        shown.append("shrink ?: not known, or a penalty that an adaptive optimizer rescales.")
    if any(decay.schedule for row in report.rows for decay in row.callbacks):
        shown.append("~: a schedule, at the present step.")
    return shown


def _notes(report: Audited, width: int) -> list[str]:
    return [line for note in notes(report) for line in textwrap.wrap(note, width)] + [""]


def _reasons(report: Audited, width: int) -> list[str]:
    """What is decayed by default, and why: a line for each variable."""
    lines = (f"{row.path}  {row.reason}" for row in report.rows)
    return [part for line in lines for part in textwrap.wrap(line, width, subsequent_indent="  ")]


def _table(names: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[str]:
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    spare = width - sum(widths[1:]) - 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(spare, _MIN_PATH))
    lines = [_line(names, widths), "  ".join("-" * size for size in widths)]
    for row in cells:
        path = row[0]
        if len(path) > widths[0]:  # in full, on a line of its own
            lines.append(path)
            path = ""
        lines.append(_line([path, *row[1:]], widths))
    return lines


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    rest = (cell.rjust(size) for cell, size in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([cells[0].ljust(widths[0]), *rest])


def _finding(finding: Finding, width: int) -> list[str]:
    head = f"{finding.severity} [{finding.code}] {finding.message}"
    return [
        *textwrap.wrap(head, width, initial_indent="* ", subsequent_indent="  "),
        *textwrap.wrap(finding.remedy, width, initial_indent="  -> ", subsequent_indent="     "),
    ]


def html_page(report: Audited) -> str:
    """The whole report as one HTML fragment, in the colours of the page around it."""
    shown = columns(report)
    cells = [[show(row) for _, show in shown] for row in report.rows]
    optimizers = "".join(f"<div>Optimizer: {html.escape(line)}</div>" for line in report.optimizers)
    remarks = "<br>".join(map(html.escape, notes(report)))
    findings = "".join(map(_html_finding, report.findings)) or "<li>none</li>"
    return (
        f"<div><div><b>Decay of {html.escape(report.model)}</b> "
        f"&nbsp; digest <code>{report.digest}</code></div>{optimizers}"
        f'<div style="max-height:30em;overflow:auto;margin:0.7em 0">'
        f"{_html_table([name for name, _ in shown], cells)}</div><small>{remarks}</small>"
        f'<div style="margin:0.7em 0">'
        f"{_html_table(['', 'tensors', 'parameters'], _totals(report))}</div>"
        f'<b>Findings</b><ul style="margin:0.3em 0">{findings}</ul></div>'
    )


def _html_table(names: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    head = "".join(_html_cell("th", index, name) for index, name in enumerate(names))
    body = "".join(
        "<tr>" + "".join(_html_cell("td", index, cell) for index, cell in enumerate(row)) + "</tr>"
        for row in cells
    )
    return (
        '<table style="border-collapse:collapse;font-size:0.9em;font-variant-numeric:tabular-nums">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _html_cell(tag: str, index: int, content: str) -> str:
    place = "right;white-space:nowrap" if index else "left;overflow-wrap:anywhere"
    style = f"text-align:{place};padding:1px 8px;border-bottom:1px solid rgba(128,128,128,0.3)"
    return f'<{tag} style="{style}">{html.escape(content)}</{tag}>'


def _html_finding(finding: Finding) -> str:
    return (
        f'<li style="margin:0.3em 0"><b style="color:{_COLORS[finding.severity]}">'
        f"{finding.severity}</b> <code>{html.escape(finding.code)}</code> "
        f"{html.escape(finding.message)}<br>&rarr; {html.escape(finding.remedy)}</li>"
    )
