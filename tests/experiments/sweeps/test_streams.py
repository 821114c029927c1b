"""Runs whose data come in batches: recorded, trained alone, and begun anew when interrupted."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from l2keras_experiments.config import flattening
from l2keras_experiments.sweeps import completed, identity, job
from l2keras_experiments.sweeps.vectorized import jobs
from l2keras_experiments.tracking import recording
from l2keras_experiments.tracking.store import Store
from l2keras_experiments.training.trial import EpochRecorder
from tests.support.runs import Compose, runs_of

pytestmark = pytest.mark.usefixtures("eager_steps")


class Ones(keras.utils.PyDataset):
    """Three batches of four examples."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return np.ones((4, 2), "float32"), np.arange(4) % 2


def ones() -> Any:
    return Ones(), Ones(), Ones()


OVERRIDES = [
    f"data._target_={__name__}.ones",
    "data.num_outputs=2",
    "data.num_train=null",
    "data.label_noise=0",
    "data.validation_fraction=null",
    "training.batch_size=4",
    "training.epochs=2",
    "model=linear",
]


def test_a_run_is_recorded(composed: Compose, uri: str) -> None:
    """Its dataset has the number of batches, its model a signature, its schedule 3 steps a pass."""
    outcome = job.train(composed("config", f"tracking.uri={uri}", *OVERRIDES))
    store = Store(uri, "l2keras")
    [run] = runs_of(store)
    assert (outcome.status, run.info.status) == ("FINISHED", "FINISHED")
    assert {one.tags[0].value for one in run.inputs.dataset_inputs} == {
        "train", "validation", "test"
    }  # fmt: skip
    # 1 / (0.2 * 0.01) = 500 steps, of which an epoch has 3
    assert float(run.data.params["timescale_epochs"]) == pytest.approx(500 / 3)
    [output] = store.client.get_run(run.info.run_id).outputs.model_outputs
    assert store.client.get_logged_model(output.model_id).source_run_id == run.info.run_id
    assert "test_accuracy" in run.data.metrics


def test_an_interrupted_run_begins_anew(
    composed: Compose, uri: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In a run of its own, so that no curve is of two trainings; a line says so."""
    node = composed("config", f"tracking.uri={uri}", "tracking.log_model=false", *OVERRIDES)
    on_epoch_end = EpochRecorder.on_epoch_end

    def interrupted(self: EpochRecorder, *args: Any) -> None:
        on_epoch_end(self, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EpochRecorder, "on_epoch_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            job.train(node)
    outcome = job.train(node)
    store = Store(uri, "l2keras")
    statuses = {run.info.run_id: run.info.status for run in runs_of(store)}
    assert sorted(statuses.values()) == ["FINISHED", "KILLED"]
    assert statuses[str(outcome.run_id)] == "FINISHED"
    losses = store.client.get_metric_history(str(outcome.run_id), "loss")
    assert [one.step for one in losses] == [0, 1]
    assert "begins anew: its data come in batches" in capfd.readouterr().err
    assert job.train(node).status == "SKIPPED"


def test_a_run_whose_process_died_is_ended(composed: Compose, uri: str) -> None:
    """It stays no longer RUNNING than until its successor begins."""
    node = composed("config", f"tracking.uri={uri}", "tracking.log_model=false", *OVERRIDES)
    store, config_hash = Store(uri, "l2keras"), identity.config_hash(flattening.flatten(node))
    tags = {
        "kind": "trial",
        recording.HASH_TAG: config_hash,
        recording.RESUMABLE_TAG: "false",
    }
    dead = store.client.create_run(store.experiment_id, tags=tags).info.run_id
    store.folder.mkdir(parents=True, exist_ok=True)
    (store.folder / f"{completed.claim_name(store, config_hash)}.lock").touch()
    outcome = job.train(node)
    assert outcome.status == "FINISHED"
    assert outcome.run_id != dead
    assert store.client.get_run(dead).info.status == "FAILED"


def test_runs_are_trained_alone(
    composed: Compose, uri: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """None opens a run of a group; one line says why."""
    nodes = [
        composed("config", f"tracking.uri={uri}", f"regularization.lam={lam}", *OVERRIDES)
        for lam in (0.1, 0.2)
    ]
    assert jobs.train_at_once(nodes) == [None, None]
    assert runs_of(Store(uri, "l2keras")) == []
    lines = [line for line in capfd.readouterr().err.splitlines() if "one by one" in line]
    assert len(lines) == 1
    assert "need arrays" in lines[0]
