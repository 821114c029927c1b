"""What a person sees while it works and when it is done: bars, one-line results, tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

Advance = Callable[..., None]  # (metrics, label=None)


@contextmanager
def bar(total: int, label: str, shown: bool = True) -> Iterator[Advance]:
    """A progress bar over `total` epochs; call what it yields with each epoch's metrics.

    A `label` passed along takes the place of the first one.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, disable=not (shown and console.is_terminal)
    ) as progress:
        task = progress.add_task(label, total=total, metrics="")

        def advance(metrics: Mapping[str, float], label: str | None = None) -> None:
            shown = summary(metrics).partition(" ")[0]  # what fits into 80 columns
            progress.update(task, advance=1, description=label, metrics=shown)

        yield advance


def summary(metrics: Mapping[str, float | Sequence[float]]) -> str:
    """The numbers that matter, last epoch if there are several."""
    shown = []
    for key in ("val_accuracy", "val_data_loss", "data_loss", "penalty"):
        if key in metrics:
            value = metrics[key]
            last = value if isinstance(value, (int, float)) else value[-1]
            shown.append(f"{key}={last:.4g}")
    return " ".join(shown)


def print_table(
    title: str, columns: Sequence[str], groups: Sequence[Sequence[Sequence[str]]]
) -> None:
    """A table for the terminal, a line between groups of rows; numbers to the right."""
    table = Table(title=title, title_justify="left", header_style="bold", padding=(0, 1))
    for index, column in enumerate(columns):
        text = index in (0, len(columns) - 1)
        table.add_column(column, justify="left" if text else "right", no_wrap=index == 0)
    for rows in groups:
        for row in rows:
            table.add_row(*row)
        table.add_section()
    terminal = Console()
    Console(width=None if terminal.is_terminal else 180).print(table)
