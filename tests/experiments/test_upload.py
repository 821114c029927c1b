"""Uploading what a store did not take: a file stays until the store has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments import upload
from experiments.tracking import Store
from tests.support.runs import runs_of

LINES = '["tags", {"a": "1"}]\n["status", "FINISHED"]\n'


def unsent(store: Store) -> Path:
    """The file of a failed run, which the store never got."""
    run = store.client.create_run(store.experiment_id)
    path = store.folder / "unsent" / f"{run.info.run_id}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(LINES)
    return path


def test_a_file_is_removed_once_the_store_has_it(store: Store) -> None:
    """The run has its tag and its status."""
    path = unsent(store)
    upload.send_pending(store)
    [run] = runs_of(store)
    assert (run.data.tags["a"], run.info.status) == ("1", "FINISHED")
    assert not path.exists()


def test_a_file_stays_while_the_store_is_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways to send it leave it as it was."""

    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("the server is away")

    path = unsent(store)
    monkeypatch.setattr(store, "_write", away)
    with pytest.raises(ConnectionError):
        upload.upload(store, path)
    upload.send_pending(store)
    assert path.read_text() == LINES
    assert runs_of(store)[0].info.status == "RUNNING"


def test_upload_of_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file is an error that names it, before MLflow is loaded."""
    with pytest.raises(SystemExit, match="2"):
        upload.main(["nowhere.jsonl"])
    assert "Received: nowhere.jsonl" in capsys.readouterr().err


def test_upload_of_what_no_run_has_left(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of another kind, or of an unknown run, stays, and the error names it."""
    noise, foreign = tmp_path / "noise.jsonl", tmp_path / f"{'0' * 32}.jsonl"
    noise.write_text("noise\n")
    foreign.write_text('["params", {"lam": "0.1"}]\n')
    assert upload.main([str(noise), str(foreign), "--uri", uri]) == 1
    error = capsys.readouterr().err
    assert f"{noise} is no file that a run has left" in error
    assert f"{foreign}: The store refuses what is written" in error
    assert noise.exists()
    assert foreign.exists()
