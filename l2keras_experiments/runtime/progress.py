"""What a person sees while it works and when it is done: bars, one-line results, tables.

On a terminal there are bars: one for the sweep, one for each fit. Elsewhere, as in a log file,
there is a line for each run, and one now and then for a long fit.
"""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from l2keras_experiments.runtime.outcome import Outcome

Advance = Callable[..., None]  # (metrics, label=None)

LOG_SECONDS = 30.0  # between two lines about one fit in a log


class Board(Protocol):
    """Where the runs of a sweep are shown."""

    def begin(self, label: str, epochs: int, selection: str | None = None) -> Advance:
        """Shows a fit; call what comes back with each epoch's metrics."""
        ...

    def end(self, outcome: Outcome) -> None:
        """Shows how a run ended; its fit is over."""
        ...


_board: Board | None = None  # of this process


def current_board() -> Board | None:
    """The board of the sweep that this process is part of."""
    return _board


@contextmanager
def on_board(board: Board) -> Iterator[None]:
    """Inside the block every run of this process is shown on `board`."""
    global _board
    before, _board = _board, board
    try:
        yield
    finally:
        _board = before


@contextmanager
def fit(
    epochs: int, label: str, shown: bool = True, selection: str | None = None
) -> Iterator[Advance]:
    """Shows one fit: on the board of the sweep, or by itself; the metric `selection` first."""
    if _board is not None:
        yield _board.begin(label, epochs, selection)
        return
    with bar(epochs, label, shown, selection) as advance:
        yield advance


def show(outcome: Outcome) -> None:
    """Shows how a run ended: on the board of the sweep, or in a line."""
    if _board is not None:
        _board.end(outcome)
    else:
        print(line(outcome))


def line(outcome: Outcome) -> str:
    """A run in one line."""
    words = [f"{outcome.label}:", outcome.status, outcome.failure or _numbers(outcome)]
    if outcome.status == "SKIPPED":
        words.append("(it was finished before; rerun=all trains it again)")
    if outcome.seconds:
        words.append(f"({outcome.seconds:.1f} s)")
    return " ".join(word for word in words if word)


def _numbers(outcome: Outcome) -> str:
    return summary(outcome.metrics, outcome.selection)


class SweepBoard:
    """A sweep as this process shows it: done, failed, left, time left; and the fits at work."""

    def __init__(self, total: int, shown: bool) -> None:
        self._console = Console(stderr=True)
        self._live = shown and self._console.is_terminal
        self._progress = _bars(self._console, self._live)
        self._sweep = self._progress.add_task("sweep", total=total, metrics="")
        self._fits: dict[str, TaskID] = {}
        self._total, self._done, self._failed = total, 0, 0
        self._start = time.monotonic()

    @contextmanager
    def open(self) -> Iterator[None]:
        with self._progress, on_board(self):
            self.show_counts()
            yield

    def begin(self, label: str, epochs: int, selection: str | None = None) -> Advance:
        self._fits[label] = task = self._progress.add_task(label, total=epochs, metrics="")
        lines = _Lines(label, epochs, selection)

        def advance(metrics: Mapping[str, float], label: str | None = None) -> None:
            text = summary(metrics, selection).partition(" ")[0]
            self._progress.update(task, advance=1, metrics=text)
            if not self._live:
                lines.advance(metrics)

        return advance

    def end(self, outcome: Outcome) -> None:
        if outcome.label in self._fits:
            self._progress.remove_task(self._fits.pop(outcome.label))
        self.count(self._done + 1, self._failed + outcome.failed)
        if not self._live:
            print(f"[{self.counts()}] {line(outcome)}", file=sys.stderr, flush=True)
        elif outcome.failed:
            self._console.print(line(outcome), style="red")

    def count(self, done: int, failed: int) -> None:
        """Sets how many runs are over, and how many of these failed."""
        self._done, self._failed = done, failed
        self.show_counts()

    def watch(self, done: int, failed: int) -> None:
        """The same, where no one tells how the runs end: in a log a line for every change."""
        changed = (done, failed) != (self._done, self._failed)
        self.count(done, failed)
        if changed and not self._live:
            print(f"[{self.counts()}]", file=sys.stderr, flush=True)

    def show_counts(self) -> None:
        text = f"{self._failed} failed, {self._total - self._done} left"
        self._progress.update(self._sweep, completed=self._done, metrics=text)

    def counts(self) -> str:
        """Done, failed, left, time left."""
        left = self._total - self._done
        words = f"{self._done}/{self._total} done, {self._failed} failed, {left} left"
        if not self._done or not left:
            return words
        seconds = (time.monotonic() - self._start) / self._done * left
        return f"{words}, {timedelta(seconds=round(seconds))} to go"


class _Lines:
    """A line now and then about a long fit."""

    def __init__(self, label: str, epochs: int, selection: str | None) -> None:
        self._label, self._epochs, self._selection = label, epochs, selection
        self._epoch = 0
        self._last = time.monotonic()

    def advance(self, metrics: Mapping[str, float]) -> None:
        self._epoch += 1
        if time.monotonic() - self._last > LOG_SECONDS:
            self._last = time.monotonic()
            numbers = summary(metrics, self._selection)
            text = f"{self._label}: epoch {self._epoch}/{self._epochs} {numbers}"
            print(text, file=sys.stderr, flush=True)


@contextmanager
def bar(
    total: int, label: str, shown: bool = True, selection: str | None = None
) -> Iterator[Advance]:
    """A progress bar over `total` epochs; call what it yields with each epoch's metrics.

    A `label` passed along takes the place of the first one.
    """
    console = Console(stderr=True)
    live = shown and console.is_terminal
    lines = _Lines(label, total, selection)
    with _bars(console, live) as progress:
        task = progress.add_task(label, total=total, metrics="")

        def advance(metrics: Mapping[str, float], label: str | None = None) -> None:
            text = summary(metrics, selection).partition(" ")[0]  # what fits into 80 columns
            progress.update(task, advance=1, description=label, metrics=text)
            if shown and not live:
                lines.advance(metrics)

        yield advance


def _bars(console: Console, live: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=10 if console.width < 100 else 20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
        console=console,
        disable=not live,
    )


def summary(metrics: Mapping[str, float | Sequence[float]], selection: str | None = None) -> str:
    """The numbers that matter, `selection` first; the last epoch if there are several."""
    own = [key for key in metrics if key.startswith("val_") and key != "val_loss"]
    first = [selection] if selection else []
    losses = ("val_data_loss", "data_loss", "penalty")
    shown = []
    for key in dict.fromkeys([*first, "val_accuracy", *sorted({*own} - {*losses}), *losses]):
        if key in metrics:
            value = metrics[key]
            last = value if isinstance(value, (int, float)) else value[-1]
            shown.append(f"{key}={last:.4g}")
    return " ".join(shown)


LOG_WIDTH = 180  # characters of a table where there is no terminal
_VERDICT = 11  # least width of the last column, whose words wrap


def print_table(
    title: str,
    columns: Sequence[str],
    groups: Sequence[Sequence[Sequence[str]]],
    important: Sequence[str] = (),
) -> None:
    """A table for the terminal, a line between groups of rows; numbers to the right.

    Args:
        title: Above the table.
        columns: Their names; the first and the last hold text.
        groups: Rows, a text for each column.
        important: Columns that come first where not all have room. None is cut: it is there
            whole, or left out. Without any, all are there.
    """
    terminal = Console()
    width = terminal.width if terminal.is_terminal else LOG_WIDTH
    shown = fitting(columns, [row for rows in groups for row in rows], width, important)
    table = Table(title=title, title_justify="left", header_style="bold", padding=(0, 1))
    for index in shown:
        text = index in (0, len(columns) - 1)
        wraps = index == len(columns) - 1
        table.add_column(
            _heading(columns[index]), justify="left" if text else "right", no_wrap=not wraps
        )
    for rows in groups:
        for row in rows:
            table.add_row(*(row[index] for index in shown))
        table.add_section()
    Console(width=width).print(table)
    if len(shown) < len(columns):
        left_out = ", ".join(columns[i] for i in range(len(columns)) if i not in shown)
        print(_wrapped(f"Not shown for want of room: {left_out}."))


def print_point(sentence: str) -> None:
    """A point of a list; in a terminal its lines end between words."""
    print(_wrapped(f"- {sentence}", indent="  "))


def _wrapped(text: str, indent: str = "") -> str:
    terminal = Console()
    if not terminal.is_terminal:
        return text
    return textwrap.fill(
        text,
        terminal.width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _heading(name: str) -> str:
    """The name of a column, a word a line."""
    return name.replace(" ", "\n")


def fitting(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    important: Sequence[str],
) -> list[int]:
    """The places of the columns that have room in `width` characters, in their order.

    Those that are `important` are taken first, as long as they have room, then the others.
    """
    if not important:
        return list(range(len(columns)))
    needed = [
        max(len(text) for text in (*_heading(name).split("\n"), *(row[i] for row in rows)))
        for i, name in enumerate(columns)
    ]
    needed[-1] = min(needed[-1], _VERDICT)
    ranked = [columns.index(name) for name in important if name in columns]
    shown: list[int] = []
    for i in dict.fromkeys([*ranked, *range(len(columns))]):
        if 1 + sum(needed[j] + 3 for j in [*shown, i]) <= width:  # borders and padding
            shown.append(i)
    return sorted(shown)
