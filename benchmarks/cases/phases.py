"""The phases of a run, and a clock that adds up the seconds of their functions."""

from __future__ import annotations

import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Watched = tuple[Any, str, str]  # owner of a function, its name there, its phase

CREATING = "creating the database (migrations)"
OPENING = "opening the store"
ASKING = "looking up completed runs"
STARTING_RUN = "opening the run"
LOGGING = "queueing records"
DESCRIBING = "describing the data"
SAVING = "saving the model's file"
WAITING = "waiting for the write queue"
TRAINING = "training (rest of `fit`)"

REST = "everything else"

# The phases of tracking. The model's file is part of it; checkpoints are not.
TRACKING = (CREATING, OPENING, ASKING, STARTING_RUN, DESCRIBING, LOGGING, SAVING, WAITING)
# The phases inside `fit`.
INSIDE_FIT = (
    "tracing the step", "tracing the validation", "validating", "checkpoints", TRAINING,
)  # fmt: skip


def phases() -> list[Watched]:
    """Returns the functions of a run that the clock watches."""
    import keras

    from l2keras_experiments.commands import command_line, validation
    from l2keras_experiments.config import flattening
    from l2keras_experiments.runtime import device
    from l2keras_experiments.sweeps import completed, job
    from l2keras_experiments.tracking import database, provenance, recording, upload
    from l2keras_experiments.tracking.run import Run
    from l2keras_experiments.tracking.store import Store
    from l2keras_experiments.training import checkpoint, trial

    logged = ("log_params", "log_metrics", "log_text", "set_tags", "log_decay", "log_inputs")
    return [
        (command_line, "check_overrides", "checking the config"),
        (validation, "typed", "checking the config"),
        (flattening, "flatten", "checking the config"),
        (command_line, "task", REST),
        (device, "set_up", "choosing the device"),
        (database, "create", CREATING),
        (Store, "__init__", OPENING),
        (upload, "send_pending", ASKING),
        (completed, "find", ASKING),
        (provenance, "tags", STARTING_RUN),
        (Store, "_open", STARTING_RUN),
        (recording, "describe", DESCRIBING),
        *[(Run, name, LOGGING) for name in logged],
        (job, "load_any", "loading the data"),
        (trial, "compiled_model", "building the model"),
        (trial, "audit", "auditing the model"),
        (keras.Model, "train_step", INSIDE_FIT[0]),  # runs in Python only while it is traced
        (keras.Model, "test_step", INSIDE_FIT[1]),
        (keras.Model, "evaluate", INSIDE_FIT[2]),
        (checkpoint, "save", INSIDE_FIT[3]),
        (keras.Model, "fit", TRAINING),
        (Run, "log_model", SAVING),
        (Run, "end", WAITING),
        (Store, "write", "writing"),  # in the write queue's thread
    ]


class Clock:
    """Times watched functions, each without the watched functions that it calls.

    Attributes:
        own: Seconds of the main thread by phase, in the order in which the phases begin.
        waited: CPU seconds of other threads while the main thread waits for them. `own` has that
            time already.
        beside: CPU seconds of other threads while the main thread does something else.
    """

    def __init__(self) -> None:
        self.own: dict[str, float] = defaultdict(float)
        self.waited = self.beside = 0.0
        self._inside: list[float] = []
        self._open: list[str] = []

    @contextmanager
    def watching(self, watched: list[Watched]) -> Iterator[None]:
        """Replaces the functions by timed ones inside the block."""
        originals = [(owner, name, getattr(owner, name)) for owner, name, _ in watched]
        for owner, name, phase in watched:
            setattr(owner, name, self._watched(getattr(owner, name), phase))
        try:
            yield
        finally:
            for owner, name, function in originals:
                setattr(owner, name, function)

    def tracking(self) -> float:
        """Returns the seconds of tracking: the main thread's, and `beside`."""
        return sum(self.own.get(phase, 0.0) for phase in TRACKING) + self.beside

    def _watched(self, function: Callable[..., Any], phase: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            main = threading.current_thread() is threading.main_thread()
            with self._timed(phase) if main else self._aside():
                return function(*arguments, **named)

        return timed

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        self.own[phase] += 0.0  # keeps the order in which phases begin
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
