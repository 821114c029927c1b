"""What waits to be written to the store: in order, in batches, again and again until it is.

Training never waits for the store: a thread of the outbox writes. What the store does not take,
because a server is away or a database locked, stays and is tried again. What it has not taken
when the run is over goes into a file, from which `python -m experiments.upload` brings it later.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from l2keras_experiments.config.paths import LONGEST_NAME
from l2keras_experiments.runtime import durable
from l2keras_experiments.runtime.durable import Damaged

# One operation: its kind and what JSON can hold. Kinds: metrics ([[key, value, ms, step], ...]),
# params and tags ({key: text}), text ([artifact, text]), status (text), file ([name in the
# spool, artifact folder or null, its SHA-256]), inputs ([data.description.describe, ...]) and
# model (see run.Run.log_model).
Operation = tuple[str, Any]
Write = Callable[[Sequence[Operation]], None]

# The first write comes early: while a short run trains, not after it.
FIRST_FLUSH, FLUSH_SECONDS = 1.0, 5.0
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
        self._urgent = self._closed = self._has_written = False
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
            durable.write(self._spill, [json.dumps(line).encode() + b"\n" for line in left])
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
            pause, self.trouble, self._has_written = FIRST_PAUSE, None, True
            for _ in batch:
                self._waiting.popleft()
            self._written.set()

    def _wait_for_work(self) -> bool:
        """Returns when something is urgent or some seconds old; False at the end."""
        while not self._closed:
            if not (self._urgent and self._waiting):
                self._wake.wait(
                    FLUSH_SECONDS if self._has_written else min(FIRST_FLUSH, FLUSH_SECONDS)
                )
                self._wake.clear()
            if self._waiting and not self._closed:
                return True
        return False


def spool_of(spill: Path) -> Path:
    """The folder of the files among the operations that `close` has written to `spill`."""
    return spill.with_suffix("")


def read_spill(path: Path) -> list[Operation]:
    """The operations in a file that `close` has written.

    Raises:
        Damaged: the file, or one in its spool, is not what was written, or no run writes such.
    """
    if path.suffix != ".jsonl":
        raise Damaged("its name is not RUN_ID.jsonl")
    try:
        lines = durable.read(path).decode().splitlines()
        operations = [(kind, content) for kind, content in map(json.loads, lines)]
    except durable.Damaged:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise Damaged("it holds no operations") from error
    for operation in operations:
        if not _is_valid(operation):
            raise Damaged(f"no run writes an operation such as {str(operation)[:80]}")
        for name, digest in files_of(operation):
            spooled(spool_of(path), name, digest)
    names = {PurePosixPath(content[0]) for kind, content in operations if kind == "text"}
    if any(names.intersection(name.parents) for name in names):
        raise Damaged("it has a text and a folder of one name")
    return operations


def files_of(operation: Operation) -> list[tuple[str, str]]:
    """The names in the spool, and the digests, of what an operation brings."""
    kind, content = operation
    if kind == "file":
        return [(content[0], content[2])]
    return [(content["file"], content["digest"])] if kind == "model" else []


def spooled(spool: Path, name: str, digest: str) -> Path:
    """The path of a file that waits in `spool`.

    Raises:
        Damaged: it is another file than the one that was put there, or lies elsewhere.
    """
    path = spool / name
    if path.resolve() != spool.parent.resolve() / spool.name / name:
        raise Damaged(f"{path} is no file of its own")
    if not path.is_file() or digest_of(path) != digest:
        raise Damaged(f"{path} is missing, or its checksum is wrong")
    return path


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_valid(operation: Operation) -> bool:
    """Whether a run writes such an operation, into its own artifacts and from its own files."""
    match operation:
        case "metrics", [*rows]:
            return all(_is_metric(row) for row in rows)
        case "params" | "tags", dict(texts):
            return all(isinstance(text, str) for text in texts.values())
        case "text", [str(name), str(content)]:
            return _is_inside(name) and _is_text(content)
        case "file", [str(name), None, str()]:
            return _is_inside(name)
        case "file", [str(name), str(folder), str()]:
            return _is_inside(name) and _is_inside(folder)
        case "status", "FINISHED" | "FAILED" | "KILLED":
            return True
    return _describes(operation)


def _describes(operation: Operation) -> bool:
    """Whether it is about data or a model, as a run writes such an operation."""
    match operation:
        case "inputs", [*inputs]:
            return all(_is_input(one) for one in inputs)
        case "model", dict(model):
            return _is_model(model)
    return False


INPUT = ("context", "name", "digest", "source_type", "source", "schema", "profile")


def _is_input(given: Any) -> bool:
    return (
        isinstance(given, dict)
        and given.keys() == set(INPUT)
        and all(isinstance(text, str) and _is_text(text) for text in given.values())
    )


def _is_model(given: dict[str, Any]) -> bool:
    match given:
        case {"file": str(name), "digest": str(), "versions": dict(versions), "modules": [*modules],
              "inputs": None | [*_] as inputs, "outputs": None | [*_] as outputs}:  # fmt: skip
            texts = [*versions, *versions.values(), *modules]
            specs = [*(inputs or []), *(outputs or [])]
            return (
                _is_inside(name)
                and all(isinstance(text, str) and _PLAIN.fullmatch(text) for text in texts)
                and all(_is_spec(spec) for spec in specs)
            )
    return False


def _is_spec(spec: Any) -> bool:
    match spec:
        case [None | str(), str(kind), [*sizes]]:
            return bool(_KIND.fullmatch(kind)) and all(isinstance(size, int) for size in sizes)
    return False


_PLAIN = re.compile(r"[\w.+-]+( [\w.+ -]+)?")  # names and versions, in files of requirements
_KIND = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128)")  # of NumPy


def _is_metric(row: Any) -> bool:
    match row:
        case [str(), int() | float() as value, int(time), int(step)]:
            is_number = isinstance(value, float) or abs(value) < 2**1023
            return is_number and max(abs(time), abs(step)) < 2**63
    return False


def _is_inside(name: str) -> bool:
    """Whether a name, joined to a folder, names something in it, on any system."""
    parts = name.split("/")
    if not _is_text(name) or max(map(len, map(os.fsencode, parts))) > LONGEST_NAME:
        return False
    return not set(parts) & {"", ".", ".."} and not set(name) & set("\\:\0")


def _is_text(text: str) -> bool:
    """Whether it can be written to a file: JSON may hold half of a character."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


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
    inputs: list[Mapping[str, str]] = field(default_factory=list)
    model: Mapping[str, Any] | None = None
    status: str | None = None


def merged(operations: Sequence[Operation]) -> Batch:
    """The operations of one run, in few: of what has a name, the last counts."""
    batch = Batch()
    for kind, content in operations:
        if kind == "metrics":
            batch.metrics += content
        elif kind == "inputs":
            batch.inputs += content
        elif kind in ("params", "tags"):
            getattr(batch, kind).update(content)
        elif kind in ("model", "status"):
            setattr(batch, kind, content)
        elif kind == "text":
            batch.texts[content[0]] = content[1]
        else:
            batch.files.append(content)
    return batch
