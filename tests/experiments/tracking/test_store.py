"""The record of runs in a real MLflow store."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from l2keras_experiments.config import paths
from l2keras_experiments.runtime import signals
from l2keras_experiments.tracking import outbox, provenance
from l2keras_experiments.tracking.store import Store, opened, store_uri, ui_command
from tests.support.runs import runs_of


def test_default_store_is_in_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without any setting the store is sqlite in runs/, by absolute path, from any folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert store_uri(None) == f"sqlite:///{paths.PROJECT / 'runs' / 'mlflow.db'}"


def test_environment_and_config_choose_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLFLOW_TRACKING_URI is honoured, tracking.uri goes before it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    assert store_uri(None) == "http://localhost:5000"
    assert store_uri("sqlite:////tmp/other.db") == "sqlite:////tmp/other.db"
    assert ui_command("http://localhost:5000") == "open http://localhost:5000"


def test_relative_sqlite_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative sqlite path is relative to where the command was typed, once and for all."""
    monkeypatch.chdir(tmp_path)
    assert store_uri("sqlite:///x.db") == f"sqlite:///{tmp_path / 'x.db'}"


def test_a_run_that_ends_well(store: Store) -> None:
    """Parameters, metrics, files and tags arrive; the run is FINISHED."""
    with store.run("one", tags={"method": "half_l2"}) as run:
        run.log_params({f"key{i}": i for i in range(120)} | {"none": None})
        for epoch in range(3):
            run.log_metrics({"loss": 1.0 / (epoch + 1)}, step=epoch)
        run.log_text("hello", "note.txt")
    [found] = runs_of(store)
    assert found.info.status == "FINISHED"
    assert len(found.data.params) == 121
    assert found.data.params["none"] == "null"
    assert found.data.tags["method"] == "half_l2"
    assert found.data.tags["git_dirty"] in ("true", "false", "unknown")
    history = store.client.get_metric_history(run.id, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert [f.path for f in store.client.list_artifacts(run.id)] == ["note.txt"]


def test_a_password_is_not_recorded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that a run keeps has no password of a database in it."""
    url = "tune.storage=postgresql+psycopg2://user:secret@host/database"
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "experiments.tune", url])
    with store.run("one"):
        pass
    tags = runs_of(store)[0].data.tags
    assert tags["command"].endswith("'tune.storage=postgresql+psycopg2://user:***@host/database'")
    assert tags["mlflow.source.name"] == "experiments.tune"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["python", "-m", "experiments.train", "-m", "seed=0,1"], "experiments.train"),
        (["python", "-X", "dev", "-m", "experiments.compare"], "experiments.compare"),
        (["python", "-m", "joblib.externals.loky", "--pipe"], "train.py"),
        (["python", "-c", "from multiprocessing.spawn import spawn_main"], "train.py"),
        (["python", "train.py", "-m", "seed=0,1"], "train.py"),
    ],
)
def test_the_source_is_the_module_of_the_command(
    words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's column shows the last part of the source: the module, never an argument."""
    monkeypatch.setattr(sys, "orig_argv", words)
    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py", *words[2:]])
    assert provenance.source() == expected


def test_artifacts_lie_beside_the_database(store: Store, tmp_path: Path) -> None:
    """A sqlite store keeps its artifacts in the folder of the database."""
    with store.run("one") as run:
        run.log_text("hello", "note.txt")
    assert list((tmp_path / "store" / "artifacts").rglob("note.txt"))


def test_an_exception_marks_the_run_failed(store: Store) -> None:
    """An exception ends the run as FAILED, its traceback an artifact, its metrics written."""

    def fail() -> None:
        with store.run("one") as run:
            run.log_metrics({"loss": 1.0})
            raise ArithmeticError("nan loss")

    with pytest.raises(ArithmeticError):
        fail()
    [found] = runs_of(store)
    assert found.info.status == "FAILED"
    assert found.data.metrics == {"loss": 1.0}
    path = store.client.download_artifacts(found.info.run_id, "traceback.txt")
    assert "ArithmeticError: nan loss" in Path(path).read_text()


def test_ctrl_c_marks_parent_and_child_killed(store: Store) -> None:
    """Ctrl-C ends the run and its parent as KILLED, metrics written."""

    def interrupt() -> None:
        with store.run("parent") as parent, store.run("child", parent=parent.id) as child:
            child.log_metrics({"loss": 1.0})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    child, parent = runs_of(store)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert [child.info.status, parent.info.status] == ["KILLED", "KILLED"]
    assert child.data.metrics == {"loss": 1.0}


def test_sigterm_marks_the_run_killed(store: Store) -> None:
    """SIGTERM ends the run as KILLED, and the handler of before is back afterwards."""
    before = signal.getsignal(signal.SIGTERM)

    def terminate() -> None:
        with store.run("one"):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()

    with pytest.raises(signals.Terminated):
        terminate()
    assert runs_of(store)[0].info.status == "KILLED"
    assert signal.getsignal(signal.SIGTERM) is before


def test_metrics_are_written_in_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics of an epoch wait for the next flush: one request for many epochs."""
    requests: list[int] = []
    write = store.client.log_batch

    def count(run_id: str, metrics: tuple[object, ...] = (), **other: object) -> None:
        requests.append(len(metrics))
        write(run_id, metrics=metrics, **other)

    monkeypatch.setattr(store.client, "log_batch", count)
    with store.run("one") as run:
        for epoch in range(1500):
            run.log_metrics({"loss": 0.0}, step=epoch)
    assert sum(requests) == 1500
    assert len(requests) <= 4


def test_a_short_run_is_one_request_and_its_texts_another(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Params, tags and metrics go together, so do texts; what is written is all there."""
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    calls: list[str] = []

    def count(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def counted(*given: Any, **named: Any) -> Any:
            calls.append(name)
            return original(*given, **named)

        monkeypatch.setattr(owner, name, counted)

    for name in ("log_batch", "get_run"):
        count(store.client, name)
    for name in ("log_artifacts", "log_artifact"):
        count(LocalArtifactRepository, name)
    with store.run("one") as run:
        run.log_params({"a": 1})
        run.log_text("x", "note.txt")
        run.log_metrics({"loss": 1.0})
        run.set_tags({"t": "u"})
        run.log_text("y", "folder/other.txt")
        run.log_params({"b": 2})
    assert calls == ["log_batch", "log_artifacts"]
    [found] = runs_of(store)
    assert found.data.params == {"a": "1", "b": "2"}
    assert found.data.metrics == {"loss": 1.0}
    assert found.data.tags["t"] == "u"
    other = store.client.download_artifacts(found.info.run_id, "folder/other.txt")
    assert Path(other).read_text() == "y"


def test_a_study_is_opened_once_in_a_process(tmp_path: Path) -> None:
    """The same for the same store and study, another one for another study."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    first = opened(uri, "study")
    assert opened(uri, "study") is first
    assert opened(uri, "other").experiment_id != first.experiment_id


def test_a_long_fit_is_seen_while_it_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The buffer is written when it is some seconds old, not only at the end."""
    monkeypatch.setattr(outbox, "FLUSH_SECONDS", 0.05)
    with store.run("one") as run:
        run.log_metrics({"loss": 1.0})
        deadline = time.monotonic() + 10
        while not store.client.get_run(run.id).data.metrics and time.monotonic() < deadline:
            time.sleep(0.05)
        assert store.client.get_run(run.id).data.metrics == {"loss": 1.0}


def test_a_deleted_study_is_refused(store: Store, uri: str) -> None:
    """A study that was deleted in the UI raises with the remedy."""
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(ValueError, match=r"tracking\.study=study.*restore it"):
        Store(uri, "study")


def test_a_killed_creation_leaves_no_broken_store(missing_uri: str) -> None:
    """What a process that was killed while creating the database left does not hurt the next."""
    folder = Path(missing_uri.removeprefix("sqlite:///")).parent
    folder.mkdir()
    (folder / "mlflow.db.new").write_bytes(b"half a database")
    with Store(missing_uri, "study").run("one"):
        pass
    assert runs_of(Store(missing_uri, "study"))[0].info.status == "FINISHED"
    assert not (folder / "mlflow.db.new").exists()


def test_once_it_is_created_a_store_is_written_with_all_care(missing_uri: str) -> None:
    """SQLite waits for the disk and keeps its journal there, but while the tables are made."""
    Store(missing_uri, "study")
    engine = sqlalchemy.create_engine(missing_uri)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"
    engine.dispose()


def test_a_resumed_run_has_every_epoch_once(store: Store) -> None:
    """A resumed run takes only the epochs that it lacks, keeps its parameters, ends FINISHED."""

    def first() -> None:
        with store.run("one") as run:
            run.log_params({"device": "a"})
            for epoch in (0, 1):
                run.log_metrics({"loss": float(epoch)}, step=epoch)
            raise ArithmeticError("half way")

    with pytest.raises(ArithmeticError):
        first()
    [failed] = runs_of(store)
    assert failed.data.tags["failure"] == "ArithmeticError: half way"
    with store.run("one", resume=failed.info.run_id) as run:
        assert store.client.get_run(run.id).info.status == "RUNNING"
        run.log_params({"device": "b", "new": 1})
        for epoch in range(4):
            run.log_metrics({"loss": float(epoch)}, step=epoch)
    [found] = runs_of(store)
    assert found.info.status == "FINISHED"
    assert "failure" not in found.data.tags
    assert found.data.params == {"device": "a", "new": "1"}
    history = store.client.get_metric_history(run.id, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]


def test_what_the_store_refuses_is_not_finished(store: Store) -> None:
    """A key that MLflow refuses ends the run FAILED, and raises what MLflow says."""

    def refused() -> None:
        with store.run("one") as run:
            run.log_metrics({"a=b": 1.0})

    with pytest.raises(outbox.Rejected, match="a=b"):
        refused()
    assert runs_of(store)[0].info.status == "FAILED"


def test_a_run_that_fails_after_the_store_has_refused_is_failed(store: Store) -> None:
    """The tags that tell why cannot be written any more; its own error is raised all the same."""

    def failing() -> None:
        with store.run("one") as run:
            run.log_metrics({"a=b": 1.0})
            run.flush()
            raise ArithmeticError("half way")

    with pytest.raises(ArithmeticError, match="half way"):
        failing()
    assert runs_of(store)[0].info.status == "FAILED"


def test_a_signal_during_the_end_waits_for_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the last metrics are written: they are, the run is FINISHED, then it raises."""
    write = store.client.log_batch

    def interrupted(run_id: str, metrics: tuple[object, ...] = (), **other: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        write(run_id, metrics=metrics, **other)

    def end() -> None:
        with store.run("one") as run:
            monkeypatch.setattr(store.client, "log_batch", interrupted)
            run.log_metrics({"loss": 1.0})

    with pytest.raises(KeyboardInterrupt):
        end()
    [found] = runs_of(store)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 1.0})
