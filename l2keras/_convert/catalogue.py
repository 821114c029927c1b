"""conventions: the table of all systems that `l2keras.convert` knows."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from l2keras import _calls
from l2keras._convert.systems import SYSTEMS

LEGEND = (
    "c is the number that the system is given, lam the coefficient of W in the gradient, g the "
    "gradient of the data loss at W, eta_t the learning rate at step t (eta if it is constant, "
    "eta_init what the optimizer was constructed with). step, velocity and adam are what the "
    "optimizer makes of a gradient."
)
_GAP = "  "
_NO_TERMINAL = (10_000, 24)  # one line for each system, as grep likes it


class Convention(NamedTuple):
    """One system: its name, lam as a formula in c, its update rule, where the rule stands."""

    name: str
    lam: str
    update: str
    source: str
    kind: str
    note: str


class ConventionTable(tuple[Convention, ...]):
    """A sequence of `Convention`, printed as a table as wide as the terminal."""

    __slots__ = ()

    def __repr__(self) -> str:
        width = shutil.get_terminal_size(_NO_TERMINAL).columns
        legend = textwrap.fill(LEGEND, min(width, 100))
        table = _table([Convention._fields[:4], *(row[:4] for row in self)], width)
        return f"{table}\n\n{legend}"


@_calls.explained("conventions")
def conventions() -> ConventionTable:
    """Lists the systems that `l2keras.convert` knows, with update rule and source.

    Convention: `lam` is the coefficient of `W` in the gradient; the column `lam` says what it
    is for a coefficient c of the system. Source: for each row the file in its last column.

    Returns:
        A sequence of named tuples (name, lam, update, source, kind, note) that prints as a
        table. `kind` is "coupled", "decoupled", "independent" (a
        share of W at the initial learning rate, following a schedule) or
        "fixed" (no learning rate in the rule).

    Example:

    >>> from l2keras import conventions
    >>> {row.name: row.lam for row in conventions()}["keras.L2"]
    '2*c'
    """
    return ConventionTable(
        Convention(one.name, one.lam, one.update, one.source, one.kind, one.note) for one in SYSTEMS
    )


def _table(rows: Sequence[Sequence[str]], width: int) -> str:
    """Aligned columns, as many as fit; what does not fit stands below, one cell a line."""
    columns = [max(map(len, column)) + len(_GAP) for column in zip(*rows, strict=True)]
    fitting = sum(total - len(_GAP) <= width for total in accumulate(columns))
    lines = []
    for row in rows:
        cells = [cell.ljust(column) for cell, column in zip(row, columns, strict=True)]
        lines.append("".join(cells[:fitting]).rstrip())
        lines += [f"    {cell}" for cell in row[fitting:]]
    return "\n".join(lines)
