"""A real run of the command, whose tracking server goes away for a minute."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from l2keras_experiments.config import paths
from l2keras_experiments.tracking.store import Store
from tests.support.runs import runs_of
from tests.support.servers import TrackingServer


def test_a_minute_without_the_server(tracking_server: TrackingServer, tmp_path: Path) -> None:
    """A real run of the command, the server a minute away in its middle: every epoch is there."""
    epochs = 2000
    command = [
        sys.executable, "-m", "experiments.train", f"training.epochs={epochs}", "model.width=8",
        "data.num_train=200", f"tracking.uri={tracking_server.uri}", f"hydra.run.dir={tmp_path}",
    ]  # fmt: skip
    store = Store(tracking_server.uri, "l2keras")
    with subprocess.Popen(command, cwd=paths.PROJECT, text=True, stderr=subprocess.PIPE) as process:
        while not (runs_of(store) and runs_of(store)[0].data.metrics):
            assert process.poll() is None
            time.sleep(0.5)
        process.send_signal(signal.SIGSTOP)  # so that the outage falls into the run, not after it
        tracking_server.stop()
        process.send_signal(signal.SIGCONT)
        time.sleep(60)
        assert os.path.exists(f"/proc/{process.pid}")
        tracking_server.start()
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    [found] = runs_of(store)
    assert found.info.status == "FINISHED"
    for key in ("loss", "val_accuracy", "weight_norm"):
        history = store.client.get_metric_history(found.info.run_id, key)
        assert [metric.step for metric in history] == list(range(epochs)), key
