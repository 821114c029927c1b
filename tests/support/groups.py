"""Small runs to be trained at once, and what the store has of them afterwards."""

from __future__ import annotations

from typing import Any

from experiments.tracking import Store
from tests.support.runs import runs_of

SMALL = ["data.num_train=90", "model.width=8", "training.epochs=3", "training.batch_size=20"]
SMALL += ["regularization.lam=0.3", "optimizer.schedule=cosine", "training.progress=false"]


def trials(store: Store) -> dict[str, Any]:
    """The runs of a study by name."""
    return {run.info.run_name: run for run in runs_of(store) if run.data.tags["kind"] == "trial"}


def histories(store: Store, run: Any) -> dict[str, list[tuple[int, float]]]:
    """Every metric of a run, in order."""
    found = {key: store.client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    return {key: sorted((m.step, m.value) for m in values) for key, values in found.items()}
