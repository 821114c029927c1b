"""The commands that train jobs at once."""

from __future__ import annotations

import subprocess
import sys

from l2keras_experiments.config import paths
from l2keras_experiments.tracking.store import Store
from tests.support.groups import SMALL, trials
from tests.support.runs import runs_of


def test_the_launcher_trains_at_once_what_it_can(missing_uri: str) -> None:
    """One command: HalfL2's runs at once, those of Keras' L2 alone, all under one parent."""
    store = f"tracking.uri={missing_uri}"
    small = [word for word in SMALL if not word.startswith("training.progress")]
    command = [sys.executable, "-m", "experiments.train", "-m", "hydra/launcher=vectorized", *small,
               "regularization=half_l2,builtin_l2", "seed=0,1", store,
               "tracking.system_metrics=true"]  # fmt: skip
    result = subprocess.run(command, cwd=paths.PROJECT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "4 of 4 runs finished" in result.stdout
    found = trials(Store(missing_uri, "l2keras")).values()
    assert len(found) == 4
    for run in found:
        method, tags = run.data.params["regularization.name"], run.data.tags
        assert "system/cpu_utilization_percentage" in run.data.metrics
        assert tags.get("vectorized_size") == ("2" if method == "half_l2" else None)
    assert len({run.data.tags["mlflow.parentRunId"] for run in found}) == 1


def test_another_sweeper_has_its_jobs_trained_alone(missing_uri: str) -> None:
    """Hydra's own composes no jobs for the launcher."""
    store = f"tracking.uri={missing_uri}"
    command = [sys.executable, "-m", "experiments.train", "-m", "hydra/launcher=vectorized",
               "hydra/sweeper=basic", *SMALL, "seed=0,1", store]  # fmt: skip
    result = subprocess.run(command, cwd=paths.PROJECT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [one.info.status for one in runs_of(Store(missing_uri, "l2keras"))] == ["FINISHED"] * 2
