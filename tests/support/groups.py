"""Small runs to be trained at once, and what the store has of them afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from l2keras_experiments.runtime.outcome import Outcome
from l2keras_experiments.tracking.store import Store
from tests.support.runs import runs_of

SMALL = ["data.num_train=90", "model.width=8", "training.epochs=3", "training.batch_size=20"]
SMALL += ["regularization.lam=0.3", "optimizer.schedule=cosine", "training.progress=false"]
SMALL += ["tracking.log_model=false"]
# Least squares instead of a network, for tests of what surrounds the training.
TINY = [*(word for word in SMALL if not word.startswith("model."))]
TINY += ["data=teacher_student", "model=linear", "training.batch_size=45"]


def trials(store: Store) -> dict[str, Any]:
    """The runs of a study by label."""
    found = [run for run in runs_of(store) if run.data.tags["kind"] == "trial"]
    return {run.data.tags["label"]: run for run in found}


def histories(store: Store, run: Any) -> dict[str, list[tuple[int, float]]]:
    """Every metric of a run, in order."""
    found = {key: store.client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    return {key: sorted((m.step, m.value) for m in values) for key, values in found.items()}


class Stop(Exception):
    """Ends a training in the middle."""


def launch(
    nodes: list[DictConfig], observe: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> list[Outcome | None]:
    """Trains; `observe` gets (run, epoch) before the metrics of an epoch are written."""
    from l2keras_experiments.sweeps.vectorized import jobs

    recorder = jobs._recorder

    def observed(*arguments: Any) -> Any:
        on_epoch = recorder(*arguments)

        def on_metrics(number: int, epoch: int, metrics: dict[str, float]) -> None:
            observe(number, epoch)
            on_epoch(number, epoch, metrics)

        return on_metrics

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "_recorder", observed)
        return jobs.train_at_once(nodes)


def stopping(stop: Callable[[], None]) -> Callable[[int, int], None]:
    """Calls `stop` when the first run has done its second epoch."""

    def observe(number: int, epoch: int) -> None:
        if (number, epoch) == (0, 1):
            stop()

    return observe


def fail() -> None:
    raise Stop


def relaunch(nodes: list[DictConfig], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[int]]:
    """What comes of another launch, and the epochs that it trained."""
    from l2keras_experiments.sweeps.vectorized import jobs, trainer

    trained: list[int] = []
    metrics = trainer.GroupTrainer._metrics

    def counted(self: Any, stacked: Any, state: Any) -> Any:
        trained.append(stacked.epochs - 1)
        return metrics(self, stacked, state)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.GroupTrainer, "_metrics", counted)
        return jobs.train_at_once(nodes), trained


def check_end(store: Store, outcomes: Any, whole: Any) -> None:
    """Every run has come to the same end as one never stopped, and nothing is left of it."""
    for one, other in zip(outcomes, whole, strict=True):
        assert dict(one.metrics) == dict(other.metrics)
    for found in trials(store).values():
        assert found.info.status == "FINISHED"
        assert [step for step, _ in histories(store, found)["val_loss"]] == [0, 1, 2]
    assert not kept(store)


def kept(store: Store) -> list[Path]:
    return sorted((store.folder / "checkpoints").glob("*"))


def ids(store: Store) -> dict[str, str]:
    return {name: found.info.run_id for name, found in trials(store).items()}
