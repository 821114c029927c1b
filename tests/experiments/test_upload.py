"""Uploading what a store did not take: a file stays until the store has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments import upload
from experiments.outbox import Operation

LINES = '["tags", {"a": "1"}]\n["status", "FINISHED"]\n'


class FakeStore:
    """A store that takes operations, or is away."""

    def __init__(self, folder: Path, *, is_away: bool) -> None:
        self.folder, self.is_away = folder, is_away
        self.written: list[tuple[str, list[Operation]]] = []

    def write(self, run_id: str, operations: Any) -> None:
        if self.is_away:
            raise ConnectionError("the server is away")
        self.written.append((run_id, list(operations)))


def unsent(folder: Path) -> Path:
    path = folder / "unsent" / "run1.jsonl"
    path.parent.mkdir()
    path.write_text(LINES)
    return path


def test_a_file_is_removed_once_the_store_has_it(tmp_path: Path) -> None:
    store: Any = FakeStore(tmp_path, is_away=False)
    path = unsent(tmp_path)
    upload.send_pending(store)
    assert store.written == [("run1", [("tags", {"a": "1"}), ("status", "FINISHED")])]
    assert not path.exists()


def test_a_file_stays_while_the_store_is_away(tmp_path: Path) -> None:
    store: Any = FakeStore(tmp_path, is_away=True)
    path = unsent(tmp_path)
    with pytest.raises(ConnectionError):
        upload.upload(store, path)
    upload.send_pending(store)
    assert path.read_text() == LINES


def test_upload_of_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is told, before MLflow is loaded."""
    with pytest.raises(SystemExit, match="2"):
        upload.main(["nowhere.jsonl"])
    assert "Received: nowhere.jsonl" in capsys.readouterr().err


def test_upload_of_what_no_run_has_left(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of another kind, or of a run that the store does not have, is told, and stays."""
    noise, foreign = tmp_path / "noise.jsonl", tmp_path / f"{'0' * 32}.jsonl"
    noise.write_text("noise\n")
    foreign.write_text('["params", {"lam": "0.1"}]\n')
    assert upload.main([str(noise), str(foreign), "--uri", uri]) == 1
    told = capsys.readouterr().err
    assert f"{noise} is no file that a run has left" in told
    assert f"{foreign}: The store refuses what is written" in told
    assert noise.exists()
    assert foreign.exists()
