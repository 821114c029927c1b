"""Uploading what a store did not take: a file stays until the store has it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.runtime import durable
from l2keras_experiments.tracking import upload
from l2keras_experiments.tracking.outbox import digest_of, spool_of
from l2keras_experiments.tracking.store import Store
from tests.support.runs import runs_of

OPERATIONS = [["tags", {"a": "1"}], ["status", "FINISHED"]]


def unsent(store: Store, operations: Any = OPERATIONS) -> Path:
    """The file of a failed run, which the store never got."""
    run = store.client.create_run(store.experiment_id)
    path = store.spill(run.info.run_id)
    durable.write(path, [json.dumps(one).encode() + b"\n" for one in operations])
    return path


def waiting(path: Path, text: str = "model") -> list[Any]:
    """A file in the spool of the file `path`, and the operation that uploads it."""
    file = spool_of(path) / "launch" / "1" / "model.keras"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return ["file", ["launch/1/model.keras", None, digest_of(file)]]


def rewrite(path: Path, *operations: Any) -> None:
    durable.write(path, [json.dumps(one).encode() + b"\n" for one in operations])


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
    content = path.read_bytes()
    monkeypatch.setattr(store, "_write", away)
    with pytest.raises(ConnectionError):
        upload.upload(store, path)
    upload.send_pending(store)
    assert path.read_bytes() == content
    assert runs_of(store)[0].info.status == "RUNNING"


def test_upload_of_no_file() -> None:
    """A missing file is an error that names it, before MLflow is loaded."""
    with pytest.raises(ConfigError, match=r"Received: nowhere\.jsonl"):
        upload.main(["nowhere.jsonl"])


@pytest.mark.parametrize(
    "content",
    ["", "noise", "7", "null", "{}", '{"status": 1}', '["status"]', '["status", 5]', "[" * 100_000,
     '["nope", {}]', '["metrics", [[1, 2]]]', '["tags", {"a": 1}]', '["text", ["a"]]',
     '["file", ["a", 3]]', '["params", []]', '[["status"], "FINISHED"]', '["metrics", 5]'],
)  # fmt: skip
def test_upload_of_what_no_run_has_left(content: str, tmp_path: Path) -> None:
    """A file of another shape, an empty one included, is refused by name and stays."""
    path = tmp_path / f"{'0' * 32}.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match=f"Received: {path} ") as error:
        upload.main([str(path)])
    assert "\n" not in str(error.value)
    assert path.read_text() == content


def test_upload_to_an_unknown_run(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of a run that the store does not have stays, and the error names it."""
    foreign = tmp_path / f"{'0' * 32}.jsonl"
    rewrite(foreign, ["params", {"lam": "0.1"}])
    assert upload.main([str(foreign), "--uri", uri]) == 1
    assert f"{foreign}: The store refuses what is written" in capsys.readouterr().err
    assert foreign.exists()


def test_files_go_with_what_refers_to_them(store: Store, tmp_path: Path) -> None:
    """The run has the file; beside the spill only what is not of it stays."""
    path = unsent(store)
    rewrite(path, waiting(path))
    other = spool_of(path) / "launch2" / "other"
    other.parent.mkdir()
    other.touch()
    upload.upload(store, path)
    assert [file.path for file in store.client.list_artifacts(path.stem)] == ["model.keras"]
    assert [file for file in path.parent.rglob("*") if file.is_file()] == [other]


def test_no_damage_is_sent(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """A flipped bit, a missing end, nothing at all: one line, renamed, and the store has nothing.

    The same for a file that waits beside it.
    """
    path = unsent(store)
    whole = path.read_bytes()
    damages = [whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :]
               for i in range(len(whole))]  # fmt: skip
    damages += [whole[:length] for length in range(len(whole))]
    for damage in damages:
        path.write_bytes(damage)
        upload.send_pending(store)
        assert not path.exists()
    rewrite(path, waiting(path))
    (spool_of(path) / "launch" / "1" / "model.keras").write_text("modem")
    upload.send_pending(store)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(damages) + 1
    assert all(line.startswith(f"warning: {path} is damaged: ") for line in lines)
    assert len(list(path.parent.glob("*.jsonl.damaged*"))) == len(lines)
    [run] = runs_of(store)
    assert (run.info.status, "a" in run.data.tags) == ("RUNNING", False)


SECRET = "what others may not read"
PLANTED: dict[str, Any] = {
    "absolute text": ["text", ["{folder}/written", "x"]],
    "text above": ["text", ["../../../../written", "x"]],
    "hidden text above": ["text", ["a/../../written", "x"]],
    "text by Windows' rules": ["text", ["..\\written", "x"]],
    "absolute file": ["file", ["{folder}/secret", None, "{digest}"]],
    "file above": ["file", ["../../../secret", None, "{digest}"]],
    "folder above": ["file", ["launch/1/model.keras", "../../..", "{own}"]],
    "absolute folder": ["file", ["launch/1/model.keras", "{folder}", "{own}"]],
    "link": ["file", ["link", None, "{digest}"]],
    "linked folder": ["file", ["linked/secret", None, "{digest}"]],
    "device": ["file", ["fifo", None, "{digest}"]],
    "unknown digest": ["file", ["hard", None, "{own}"]],
    "old form": ["file", ["{folder}/secret", None]],
    "unknown kind": ["folder", ["launch", None, "{digest}"]],
    "number": 1,
    "shape": {"tags": {}},
    "tag": ["tags", {"a": 1}],
    "status": ["status", "RUNNING"],
    "metric": ["metrics", [["loss", "1", 0, 0]]],
    "number beyond all": ["metrics", [["loss", 10**400, 0, 0]]],
    "step beyond all": ["metrics", [["loss", 1.0, 0, 10**30]]],
    "long name": ["text", ["a" * 300, "x"]],
    "half a character": ["text", ["a", "\ud800"]],
    "half a character in a name": ["text", ["\ud800", "x"]],
}


def test_what_is_planted_neither_writes_nor_reads_elsewhere(store: Store, tmp_path: Path) -> None:
    """Names that leave their folder, links and unknown operations are not sent."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    before = {file for file in tmp_path.rglob("*") if "state" not in file.parts}
    for what, operation in PLANTED.items():
        path = unsent(store)
        own = waiting(path)[1][2]
        spool = spool_of(path)
        (spool / "link").symlink_to(secret)
        (spool / "linked").symlink_to(tmp_path)
        os.link(secret, spool / "hard")
        os.mkfifo(spool / "fifo")
        text = json.dumps(operation).replace("{folder}", str(tmp_path))
        text = text.replace("{digest}", digest_of(secret)).replace("{own}", own)
        contents = [text, "[" * 100_000, '["text", ["a", ""]]\n["text", ["a/b", ""]]']
        for content in contents if what == "number" else [text]:
            durable.write(path, [content.encode()])
            with pytest.raises(durable.Damaged):
                upload.upload(store, path)
            assert not store.client.list_artifacts(path.stem), what
    assert {file for file in tmp_path.rglob("*") if "state" not in file.parts} == before


def test_a_linked_spool_is_not_followed(store: Store, tmp_path: Path) -> None:
    """The folder beside the file is a link to one with files of other people."""
    path = unsent(store)
    (tmp_path / "private").mkdir()
    secret = tmp_path / "private" / "key"
    secret.write_text(SECRET)
    spool_of(path).symlink_to(secret.parent)
    rewrite(path, ["file", ["key", None, digest_of(secret)]])
    with pytest.raises(durable.Damaged):
        upload.upload(store, path)
    upload.send_pending(store)
    assert secret.read_text() == SECRET
