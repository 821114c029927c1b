"""What waits to be written to the store: in order, in batches, again and again until it is.

Training never waits for the store: a thread of the outbox writes. What the store does not take,
because a server is away or a database locked, stays and is tried again. What it has not taken
when the run is over goes into a file, from which `python -m experiments.upload` brings it later.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# One operation: its kind and what JSON can hold. Kinds: metrics ([[key, value, ms, step], ...]),
# params and tags ({key: text}), text ([artifact, text]), file ([path, folder]), status (text).
Operation = tuple[str, Any]
Write = Callable[[Sequence[Operation]], None]

FLUSH_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
HURRY_SECONDS = 15.0  # after Ctrl-C and SIGTERM, which SIGKILL follows soon


class Rejected(Exception):
    """The store refuses what was written, and always will."""


class Outbox:
    """The operations of one run, written by a thread.

    Args:
        write: Writes operations, in order; all of them or, where it raises, possibly none.
            Raises `Rejected` where trying again is of no use. Writing twice must do no harm.
        spill: The file for what is left when `close` gives up.
    """

    def __init__(self, write: Write, spill: Path) -> None:
        self._write = write
        self._spill = spill
        # Appended to by the run, taken from by the thread: no lock that a signal could leave shut.
        self._waiting: deque[Operation] = deque()
        self._wake, self._written = threading.Event(), threading.Event()
        self._urgent = self._closed = False
        self.rejection: Rejected | None = None
        self.trouble: str | None = None  # why the store did not take the last batch
        self._thread = threading.Thread(target=self._work, name="outbox", daemon=True)
        self._thread.start()

    def put(self, kind: str, content: Any) -> None:
        """Adds an operation and returns at once.

        Raises:
            Rejected: the store has refused an earlier one.
        """
        if self.rejection is not None:
            raise self.rejection
        self._waiting.append((kind, content))

    def flush(self, patience: float, hurry: Callable[[], bool] = lambda: False) -> bool:
        """Waits until everything is written; False if it is not after `patience` seconds.

        Where `hurry` becomes true, `HURRY_SECONDS` are all there are.
        """
        end = time.monotonic() + patience
        self._urgent = True
        self._wake.set()
        while True:
            self._written.clear()
            if not self._waiting or self.rejection is not None or time.monotonic() > end:
                break
            self._written.wait(0.05)
            if hurry():
                end = min(end, time.monotonic() + HURRY_SECONDS)
                hurry = bool  # bool() is False: once
        return not self._waiting

    def close(self, last: Operation, patience: float, hurry: Callable[[], bool]) -> bool:
        """Adds `last`, flushes and ends the thread; False if something is left, in `spill`."""
        self._waiting.append(last)
        self.flush(patience, hurry)
        self._closed = True
        self._wake.set()
        left = self._snapshot()
        if left:
            self._spill.parent.mkdir(parents=True, exist_ok=True)
            self._spill.write_text("".join(json.dumps(line) + "\n" for line in left))
        return not left

    def _snapshot(self) -> list[Operation]:
        with suppress(IndexError):  # the thread took some away meanwhile
            return [self._waiting[i] for i in range(len(self._waiting))]
        return self._snapshot()

    def _work(self) -> None:
        pause = FIRST_PAUSE
        while self._wait_for_work():
            batch = self._snapshot()
            try:
                self._write(batch)
            except Rejected as rejection:
                self.rejection, self.trouble = rejection, str(rejection)
                self._written.set()
                return
            except Exception as error:  # whatever a client, a socket, a database may raise
                self.trouble = f"{type(error).__name__}: {error}"
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            pause, self.trouble = FIRST_PAUSE, None
            for _ in batch:
                self._waiting.popleft()
            self._written.set()

    def _wait_for_work(self) -> bool:
        """Returns when something is urgent or some seconds old; False at the end."""
        while not self._closed:
            if not (self._urgent and self._waiting):
                self._wake.wait(FLUSH_SECONDS)
                self._wake.clear()
            if self._waiting and not self._closed:
                return True
        return False


def read_spill(path: Path) -> list[Operation]:
    """The operations in a file that `close` has written."""
    return [(kind, content) for kind, content in map(json.loads, path.read_text().splitlines())]


@dataclass
class Batch:
    """Operations by what the store takes at once; metrics, params and tags are one request.

    They are written in the order of the fields: the status last.
    """

    metrics: list[Sequence[Any]] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    files: list[Sequence[Any]] = field(default_factory=list)
    status: str | None = None


def merged(operations: Sequence[Operation]) -> Batch:
    """The operations of one run, in few: of what has a name, the last counts."""
    batch = Batch()
    for kind, content in operations:
        if kind == "metrics":
            batch.metrics += content
        elif kind == "params":
            batch.params |= content
        elif kind == "tags":
            batch.tags |= content
        elif kind == "status":
            batch.status = content
        elif kind == "text":
            batch.texts[content[0]] = content[1]
        else:
            batch.files.append(content)
    return batch
