"""Workers that write to one tracking server, whose records PostgreSQL keeps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from l2keras_experiments.config import paths
from l2keras_experiments.tracking.store import Store
from tests.support import servers
from tests.support.runs import SMALL, runs_of

# What every epoch reports.
METRICS = {
    "loss", "data_loss", "penalty", "accuracy", "val_loss", "val_data_loss", "val_accuracy",
    "weight_norm", "learning_rate", "decay_per_step",
}  # fmt: skip


@pytest.mark.skipif(
    servers.postgres_programs() is None,
    reason="PostgreSQL's server is not installed (Debian: apt-get install postgresql)",
)
def test_four_workers_and_a_server_on_postgresql(tmp_path: Path) -> None:
    """Four workers that write to one `mlflow server` on PostgreSQL lose no run and no metric."""
    programs = servers.postgres_programs()
    assert programs is not None
    with servers.postgres(programs) as database:
        with servers.mlflow_server(database, tmp_path) as uri:
            sweep(uri, tmp_path)
            store = Store(uri, "l2keras")
            runs = [run for run in runs_of(store) if "lambda" in run.data.params]
            assert [run.info.status for run in runs] == ["FINISHED"] * 8
            for run in runs:
                for key in METRICS:
                    history = store.client.get_metric_history(run.info.run_id, key)
                    assert [metric.step for metric in history] == [0, 1], key
            names = {(run.data.params["seed"], run.data.tags["method"]) for run in runs}
            assert len(names) == 8
        with create_engine(database).connect() as connection:
            kept = text("select count(*) from metrics where key = 'val_data_loss'")
            assert connection.execute(kept).scalar() == 16  # 8 runs of 2 epochs


def sweep(uri: str, folder: Path) -> None:
    """Eight runs by four workers."""
    command = [
        sys.executable, "-m", "experiments.train", "-m", "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=4", "seed=0,1,2,3", "regularization=half_l2,decoupled", *SMALL,
        f"tracking.uri={uri}", "tracking.log_model=false", f"hydra.sweep.dir={folder / 'sweep'}",
    ]  # fmt: skip
    result = subprocess.run(command, cwd=paths.PROJECT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-3000:]
