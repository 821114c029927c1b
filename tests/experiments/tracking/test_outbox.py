"""What waits for the store: written in order, tried again, never lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from l2keras_experiments.tracking import outbox
from l2keras_experiments.tracking.outbox import (
    Batch,
    Operation,
    Outbox,
    Rejected,
    merged,
    read_spill,
)


def never() -> bool:
    return False


def test_operations_are_few_requests() -> None:
    """Everything of a kind is joined, whatever came between; of a name, the last one counts."""
    first, second = [["loss", 1.0, 5, 0]], [["loss", 0.5, 6, 1]]
    operations: list[Operation] = [
        ("params", {"a": "1"}), ("metrics", first), ("text", ["note.txt", "x"]),
        ("tags", {"t": "old", "u": "1"}), ("params", {"b": "2"}), ("metrics", second),
        ("file", ["note.pdf", None]), ("tags", {"t": "new"}), ("text", ["note.txt", "y"]),
        ("inputs", [{"name": "digits"}]), ("model", {"file": "old"}), ("model", {"file": "new"}),
        ("status", "FINISHED"),
    ]  # fmt: skip
    assert merged(operations) == Batch(
        metrics=[*first, *second], params={"a": "1", "b": "2"}, tags={"t": "new", "u": "1"},
        texts={"note.txt": "y"}, files=[["note.pdf", None]], inputs=[{"name": "digits"}],
        model={"file": "new"}, status="FINISHED",
    )  # fmt: skip


def test_what_fails_is_tried_again_in_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A store that fails twice gets everything the third time, once, in order; no file is left."""
    monkeypatch.setattr(outbox, "FIRST_PAUSE", 0.01)
    tries: list[list[Operation]] = []

    def write(operations: Sequence[Operation]) -> None:
        tries.append(list(operations))
        if len(tries) < 3:
            raise ConnectionError("the server is away")

    box = Outbox(write, tmp_path / "left.jsonl")
    box.put("params", {"a": "1"})
    box.put("tags", {"b": "2"})
    assert box.close(("status", "FINISHED"), patience=10, hurry=never)
    everything = [("params", {"a": "1"}), ("tags", {"b": "2"}), ("status", "FINISHED")]
    assert [one for operations in tries[2:] for one in operations] == everything
    assert not (tmp_path / "left.jsonl").exists()


def test_what_is_put_during_a_write_comes_next(tmp_path: Path) -> None:
    """Training logs while the store writes: each operation is written once, in order."""
    batches: list[list[Operation]] = []

    def write(operations: Sequence[Operation]) -> None:
        if not batches:
            box.put("tags", {"second": "2"})
        batches.append(list(operations))

    box = Outbox(write, tmp_path / "left.jsonl")
    box.put("tags", {"first": "1"})
    assert box.flush(patience=10)
    assert box.close(("status", "FINISHED"), patience=10, hurry=never)
    everything = [("tags", {"first": "1"}), ("tags", {"second": "2"}), ("status", "FINISHED")]
    assert [one for operations in batches for one in operations] == everything


def test_what_is_never_taken_is_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A store that stays away: `close` gives up in time, and the file has everything."""
    monkeypatch.setattr(outbox, "FIRST_PAUSE", 0.01)

    def write(operations: Sequence[Operation]) -> None:
        raise ConnectionError("the server is away")

    box = Outbox(write, tmp_path / "unsent" / "left.jsonl")
    box.put("metrics", [["loss", 1.0, 5, 0]])
    assert not box.close(("status", "FINISHED"), patience=0.2, hurry=never)
    assert box.trouble == "ConnectionError: the server is away"
    left = read_spill(tmp_path / "unsent" / "left.jsonl")
    assert left == [("metrics", [["loss", 1.0, 5, 0]]), ("status", "FINISHED")]


def test_a_stop_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """When a signal has come, `close` waits for seconds, not for its full patience."""
    monkeypatch.setattr(outbox, "HURRY_SECONDS", 0.1)

    def write(operations: Sequence[Operation]) -> None:
        raise ConnectionError("the server is away")

    box = Outbox(write, tmp_path / "left.jsonl")
    start = time.monotonic()
    assert not box.close(("status", "KILLED"), patience=60, hurry=lambda: True)
    assert time.monotonic() - start < 10


def test_what_is_refused_for_good_is_not_tried_again(tmp_path: Path) -> None:
    """A refusal is told to whoever writes next, and what was refused is kept in the file."""
    tries = 0

    def write(operations: Sequence[Operation]) -> None:
        nonlocal tries
        tries += 1
        raise Rejected("a bad key")

    box = Outbox(write, tmp_path / "left.jsonl")
    box.put("params", {"a=b": "1"})
    box.flush(patience=10)
    with pytest.raises(Rejected, match="a bad key"):
        box.put("params", {"c": "1"})
    assert not box.close(("status", "FAILED"), patience=10, hurry=never)
    assert tries == 1
    assert read_spill(tmp_path / "left.jsonl") == [("params", {"a=b": "1"}), ("status", "FAILED")]
