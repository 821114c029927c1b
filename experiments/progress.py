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

Advance = Callable[[Mapping[str, float]], None]


@contextmanager
def bar(total: int, label: str, shown: bool = True) -> Iterator[Advance]:
    """A progress bar over `total` epochs; call what it yields with each epoch's metrics."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
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

        def advance(metrics: Mapping[str, float]) -> None:
            progress.update(task, advance=1, metrics=summary(metrics))

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


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for the terminal; numbers to the right."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index in (0, len(columns) - 1) else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=None if Console().is_terminal else 160).print(table)
