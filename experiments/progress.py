"""What a person sees while it works and when it is done: bars, one-line results, tables.

On a terminal there are bars: one for the sweep, one for each fit. Elsewhere, as in a log file,
there is a line for each run, and one now and then for a long fit.
"""

from __future__ import annotations

import sys
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

from experiments.outcome import Outcome

Advance = Callable[..., None]  # (metrics, label=None)

LOG_SECONDS = 30.0  # between two lines about one fit in a log


class Board(Protocol):
    """Where the runs of a sweep are shown."""

    def begin(self, label: str, epochs: int) -> Advance:
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
def fit(epochs: int, label: str, shown: bool = True) -> Iterator[Advance]:
    """Shows one fit: on the board of the sweep, or by itself."""
    if _board is not None:
        yield _board.begin(label, epochs)
        return
    with bar(epochs, label, shown) as advance:
        yield advance


def show(outcome: Outcome) -> None:
    """Shows how a run ended: on the board of the sweep, or in a line."""
    if _board is not None:
        _board.end(outcome)
    else:
        print(line(outcome))


def line(outcome: Outcome) -> str:
    """A run in one line."""
    words = [f"{outcome.label}:", outcome.status, outcome.failure or summary(outcome.metrics)]
    if outcome.status == "SKIPPED":
        words.append("(it was finished before; rerun=all trains it again)")
    if outcome.seconds:
        words.append(f"({outcome.seconds:.1f} s)")
    return " ".join(word for word in words if word)


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

    def begin(self, label: str, epochs: int) -> Advance:
        self._fits[label] = task = self._progress.add_task(label, total=epochs, metrics="")
        lines = _Lines(label, epochs)

        def advance(metrics: Mapping[str, float], label: str | None = None) -> None:
            self._progress.update(task, advance=1, metrics=summary(metrics).partition(" ")[0])
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

    def __init__(self, label: str, epochs: int) -> None:
        self._label, self._epochs = label, epochs
        self._epoch = 0
        self._last = time.monotonic()

    def advance(self, metrics: Mapping[str, float]) -> None:
        self._epoch += 1
        if time.monotonic() - self._last > LOG_SECONDS:
            self._last = time.monotonic()
            text = f"{self._label}: epoch {self._epoch}/{self._epochs} {summary(metrics)}"
            print(text, file=sys.stderr, flush=True)


@contextmanager
def bar(total: int, label: str, shown: bool = True) -> Iterator[Advance]:
    """A progress bar over `total` epochs; call what it yields with each epoch's metrics.

    A `label` passed along takes the place of the first one.
    """
    console = Console(stderr=True)
    live = shown and console.is_terminal
    lines = _Lines(label, total)
    with _bars(console, live) as progress:
        task = progress.add_task(label, total=total, metrics="")

        def advance(metrics: Mapping[str, float], label: str | None = None) -> None:
            text = summary(metrics).partition(" ")[0]  # what fits into 80 columns
            progress.update(task, advance=1, description=label, metrics=text)
            if shown and not live:
                lines.advance(metrics)

        yield advance


def _bars(console: Console, live: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
        console=console,
        disable=not live,
    )


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
