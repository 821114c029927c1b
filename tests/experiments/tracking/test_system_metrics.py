"""The load of the machine among the metrics of a run."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import pytest

from l2keras_experiments.commands import validation
from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.sweeps import job
from l2keras_experiments.tracking.store import Store
from tests.support.runs import SMALL, Compose, runs_of

CPU, MEMORY = "system/cpu_utilization_percentage", "system/system_memory_usage_percentage"
ON = "tracking.system_metrics=true"


def steps(store: Store, run_id: str, key: str) -> list[int]:
    return [metric.step for metric in store.client.get_metric_history(run_id, key)]


def test_a_run_samples_the_machine(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """At intervals and at the end; a launch that resumes the run goes on with its steps."""
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with store.run("one", system_metrics=True) as run:
        end = time.monotonic() + 30  # the machine may be busy
        while len(steps(store, run.id, CPU)) < 2 and time.monotonic() < end:
            pass
    before = steps(store, run.id, CPU)
    assert before == list(range(len(before)))
    assert len(before) >= 2
    with store.run("one", resume=run.id, system_metrics=True):
        pass
    assert steps(store, run.id, CPU) == [*before, len(before)]
    [found] = runs_of(store)
    assert found.info.status == "FINISHED"
    assert 0 < found.data.metrics[MEMORY] < 100
    assert max(m.value for m in store.client.get_metric_history(run.id, CPU)) > 0


@pytest.mark.usefixtures("eager_steps")
def test_a_training_run_samples_on_request(composed: Compose, uri: str) -> None:
    """The key makes no other run of it: what is done is done."""
    neutral = [f"tracking.uri={uri}", "tracking.log_model=false", *SMALL]
    job.train(composed("config", ON, *neutral))
    [found] = runs_of(Store(uri, "l2keras"))
    assert {CPU, MEMORY} <= found.data.metrics.keys()
    assert job.train(composed("config", *neutral)).status == "SKIPPED"


def test_psutil_is_needed(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the command ends in one line, before anything trains."""
    found = importlib.util.find_spec

    def without(name: str, *more: Any) -> Any:
        return None if name == "psutil" else found(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(ConfigError, match=r"Install it: pip install psutil\.$") as raised:
        validation.typed(composed("config", ON))
    assert "\n" not in str(raised.value)
    validation.typed(composed("config"))
