"""The servers that other tests lean on are real ones."""

from __future__ import annotations

from pathlib import Path

import mlflow.exceptions
import pytest

from l2keras_experiments.tracking.store import Store
from tests.support.runs import runs_of
from tests.support.servers import TrackingServer


def test_a_server_that_goes_away_and_comes_back(
    tracking_server: TrackingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped server refuses; started again at its address it has what was written before."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = Store(tracking_server.uri, "study")
    with store.run("one") as run:
        run.log_metrics({"loss": 1.0})
        run.log_text("hello", "note.txt")
    tracking_server.stop()
    with pytest.raises(mlflow.exceptions.MlflowException):
        runs_of(store)
    tracking_server.start()
    [found] = runs_of(store)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 1.0})
    note = store.client.download_artifacts(found.info.run_id, "note.txt")
    assert Path(note).read_text() == "hello"
