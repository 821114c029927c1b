"""Adds up where the time of a run goes: the functions it is made of, each with its own phase."""

from __future__ import annotations

import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Watched = tuple[Any, str, str]  # where a function is, its name there, its phase

CREATING = "creating the database (MLflow's migrations)"
OPENING = "opening the store"
ASKING = "asking the store what is done"
STARTING_RUN = "opening the run"
LOGGING = "handing the outbox what it is to write"
SAVING = "saving the model's file"
WAITING = "waiting for the outbox at the end"
TRAINING = "training, and what Keras and TensorFlow do around it"

REST = "everything else"

# All that a run spends on its record. The file of the model is part of it; checkpoints are not.
TRACKING = (CREATING, OPENING, ASKING, STARTING_RUN, LOGGING, SAVING, WAITING)
# What is inside `fit`.
INSIDE_FIT = (
    "tracing the step", "tracing the validation", "validating", "checkpoints", TRAINING,
)  # fmt: skip


def phases() -> list[Watched]:
    """The functions of a run that are watched."""
    import keras

    from experiments import (
        checkpoint,
        cli,
        data,
        database,
        device,
        ledger,
        provenance,
        tracking,
        trial,
        upload,
    )
    from experiments.run import Run

    logged = ("log_params", "log_metrics", "log_text", "set_tags", "log_decay")
    return [
        (cli, "check_overrides", "checking the config"),
        (cli, "typed", "checking the config"),
        (cli, "flatten", "checking the config"),
        (cli, "task", REST),
        (device, "set_up", "choosing the device"),
        (database, "create", CREATING),
        (tracking.Store, "__init__", OPENING),
        (upload, "send_pending", ASKING),
        (ledger, "find", ASKING),
        (provenance, "tags", STARTING_RUN),
        (tracking.Store, "_open", STARTING_RUN),
        *[(Run, name, LOGGING) for name in logged],
        (data, "load_data", "loading the data"),
        (trial, "compiled_model", "building the model"),
        (trial, "audit", "auditing it"),
        (keras.Model, "train_step", INSIDE_FIT[0]),  # Python runs while it is traced only
        (keras.Model, "test_step", INSIDE_FIT[1]),
        (keras.Model, "evaluate", INSIDE_FIT[2]),
        (checkpoint, "save", INSIDE_FIT[3]),
        (keras.Model, "fit", TRAINING),
        (Run, "log_model", SAVING),
        (Run, "end", WAITING),
        (tracking.Store, "write", "writing"),  # in the outbox's thread
    ]


class Clock:
    """Times functions in the main thread, without the watched ones that they call.

    Attributes:
        own: Seconds by phase, of the main thread.
        waited: CPU seconds of other threads while the main thread waited for them; it counts
            that time already.
        beside: CPU seconds of other threads while the main thread did something else.
    """

    def __init__(self) -> None:
        self.own: dict[str, float] = defaultdict(float)
        self.waited = self.beside = 0.0
        self._inside: list[float] = []
        self._open: list[str] = []

    @contextmanager
    def watching(self, watched: list[Watched]) -> Iterator[None]:
        kept = [(owner, name, getattr(owner, name)) for owner, name, _ in watched]
        for owner, name, phase in watched:
            setattr(owner, name, self._watched(getattr(owner, name), phase))
        try:
            yield
        finally:
            for owner, name, function in kept:
                setattr(owner, name, function)

    def tracking(self) -> float:
        """Seconds that the record costs: those of the main thread, and the CPU's of others."""
        return sum(self.own.get(phase, 0.0) for phase in TRACKING) + self.beside

    def _watched(self, function: Callable[..., Any], phase: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*arguments: Any, **named: Any) -> Any:
            main = threading.current_thread() is threading.main_thread()
            with self._timed(phase) if main else self._aside():
                return function(*arguments, **named)

        return watched

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        self.own[phase] += 0.0  # in the order in which they begin
        self._inside.append(0.0)
        self._open.append(phase)
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self._open.pop()
            self.own[phase] += seconds - self._inside.pop()
            if self._inside:
                self._inside[-1] += seconds

    @contextmanager
    def _aside(self) -> Iterator[None]:
        awaited = WAITING in self._open
        start = time.thread_time()
        try:
            yield
        finally:
            seconds = time.thread_time() - start
            if awaited:
                self.waited += seconds
            else:
                self.beside += seconds
