"""What `make ui` prints before the MLflow UI starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from l2keras_experiments.reports import views
from l2keras_experiments.sweeps import ui


def test_make_ui_tells_where_the_ui_will_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host and the port are those of the flags, else of the environment, else MLflow's own."""
    for name in ("MLFLOW_HOST", "MLFLOW_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert ui.address([]) == views.LOCAL_UI
    assert ui.address(["--port", "5001", "--workers", "1"]) == "http://127.0.0.1:5001"
    assert ui.address(["-h", "0.0.0.0", "-p5002"]) == "http://0.0.0.0:5002"
    monkeypatch.setenv("MLFLOW_PORT", "5003")
    assert ui.address([]) == "http://127.0.0.1:5003"


def test_a_store_without_a_sweep_has_no_view_to_show(
    missing_uri: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Where nothing was run yet, no address is printed."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", missing_uri)
    ui.show_newest(views.LOCAL_UI)
    assert not Path(missing_uri.removeprefix("sqlite:///")).exists()
    assert capsys.readouterr().out == ""
