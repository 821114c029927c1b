"""A tracking server that goes away in mid run, and comes back, or does not."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.runtime import durable
from l2keras_experiments.tracking import outbox, run, upload
from l2keras_experiments.tracking.store import Store
from tests.support.runs import runs_of
from tests.support.servers import TrackingServer


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(outbox, "FLUSH_SECONDS", 0.1)
    monkeypatch.setattr("l2keras_experiments.tracking.store.RUNS", tmp_path / "runs")


def test_an_outage_loses_nothing(
    tracking_server: TrackingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Metrics, a file and the status of a run during which the server was away all arrive, once."""
    store = Store(tracking_server.uri, "study")
    with store.run("one") as one:
        one.log_metrics({"loss": 0.0}, step=0)
        assert one.flush()
        tracking_server.stop()
        for step in range(1, 50):
            one.log_metrics({"loss": float(step)}, step=step)
            time.sleep(0.02)
        one.log_text("written while it was away", "note.txt")
        threading.Timer(1.0, tracking_server.start).start()
    [found] = runs_of(store)
    assert found.info.status == "FINISHED"
    history = store.client.get_metric_history(one.id, "loss")
    assert [(m.step, m.value) for m in history] == [(i, float(i)) for i in range(50)]
    assert [f.path for f in store.client.list_artifacts(one.id)] == ["note.txt"]
    assert not one.spill.exists()
    assert capsys.readouterr().out == ""  # MLflow has no word of its own in a log


def test_an_outage_does_not_stop_the_samples_of_the_machine(
    tracking_server: TrackingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are taken while the server is away, hold up nothing, and arrive afterwards."""
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    store = Store(tracking_server.uri, "study")
    with store.run("one", system_metrics=True) as one:
        assert one.flush()
        tracking_server.stop()
        time.sleep(2.0)
        threading.Timer(1.0, tracking_server.start).start()
    [found] = runs_of(store)
    assert found.info.status == "FINISHED"
    history = store.client.get_metric_history(one.id, "system/cpu_utilization_percentage")
    assert [m.step for m in history] == list(range(len(history)))
    assert len(history) > 5


def test_a_server_that_stays_away(
    tracking_server: TrackingServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """What it did not take is in a file; the command that is printed brings it, when it is back."""
    monkeypatch.setattr(run, "PATIENCE", 1.0)
    store = Store(tracking_server.uri, "study")
    kept = tmp_path / "kept.txt"
    kept.write_text("a file")
    with store.run("one") as one:
        one.log_params({"lam": 0.1})
        assert one.flush(patience=60)  # a busy machine may need longer than the run
        tracking_server.stop()
        one.log_metrics({"loss": 1.0})
        one.log_file(kept)
    command = capsys.readouterr().err.partition("Send it with: python -m experiments.upload ")[2]
    assert one.spill.exists()
    tracking_server.start()
    assert store.client.get_run(one.id).info.status == "RUNNING"
    assert upload.main(command.split()) == 0
    [found] = runs_of(store)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 1.0})
    assert [f.path for f in store.client.list_artifacts(one.id)] == ["kept.txt"]
    assert not one.spill.exists()


def test_what_was_left_is_sent_by_the_next_launch(
    tracking_server: TrackingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever launches next, on the same machine, sends what is left; what is not its own stays."""
    monkeypatch.setattr(run, "PATIENCE", 0.5)
    store = Store(tracking_server.uri, "study")
    with store.run("one") as one:
        assert one.flush(patience=60)  # a busy machine may need longer than the run
        tracking_server.stop()
        one.log_metrics({"loss": 1.0})
    foreign = one.spill.with_name("0" * 32 + ".jsonl")
    durable.write(foreign, [b'["status", "FINISHED"]\n'])
    tracking_server.start()
    upload.send_pending(store)
    [found] = runs_of(store)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 1.0})
    assert foreign.exists()


def test_a_run_that_begins_in_an_outage_waits(tracking_server: TrackingServer) -> None:
    """A run that is to begin while the server is away begins when it is back."""
    store = Store(tracking_server.uri, "study")
    tracking_server.stop()
    threading.Timer(1.0, tracking_server.start).start()
    with store.run("one"):
        pass
    assert runs_of(store)[0].info.status == "FINISHED"


def test_a_job_that_begins_in_an_outage_waits(tracking_server: TrackingServer) -> None:
    """A job of a sweep that opens the store while it is away does so when it is back."""
    first = Store(tracking_server.uri, "study")
    tracking_server.stop()
    threading.Timer(1.0, tracking_server.start).start()
    assert Store(tracking_server.uri, "study", patient=True).experiment_id == first.experiment_id


def test_a_store_that_does_not_answer(tracking_server: TrackingServer) -> None:
    """A command that opens it is told so in one line, without the password of its address."""
    tracking_server.stop()
    uri = tracking_server.uri.replace("://", "://me:secret@")
    with pytest.raises(
        ConfigError, match=r"must be an MLflow store that answers\. Received: "
    ) as e:
        Store(uri, "study")
    assert "secret" not in str(e.value)
    assert "\n" not in str(e.value)
