"""Training runs with hand-chosen numbers, as records and as runs of a real store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from l2keras_experiments.config import methods
from l2keras_experiments.reports.records import Record
from l2keras_experiments.tracking.store import Store


@dataclass(frozen=True)
class Trial:
    """What one training run says of itself; `others` are further parameters."""

    method: str = "half_l2"
    lam: float = 0.1
    learning_rate: float = 0.5
    seed: int = 0
    accuracy: float | None = 0.9
    loss: float = 1.0
    status: str = "FINISHED"
    start: float = 0.0
    tags: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, str]:
        effective = 2 * self.lam if self.method == "builtin_l2" else self.lam
        return {
            "regularization.name": self.method,
            "regularization.lam": str(self.lam),
            "optimizer.learning_rate": str(self.learning_rate),
            "seed": str(self.seed),
            "lambda": f"{effective:.7g}",
            "data.name": "digits",
            "model.name": "mlp",
            **self.others,
        }

    @property
    def metrics(self) -> dict[str, float]:
        accuracy = {} if self.accuracy is None else {"val_accuracy": self.accuracy}
        return {**accuracy, "val_data_loss": self.loss, "data_loss": self.loss / 2,
                "weight_norm": 4.0, "penalty": self.lam * 8}  # fmt: skip

    @property
    def config_hash(self) -> str:
        return "-".join(self.params.values())

    def _tags(self) -> dict[str, str]:
        label = methods.label(self.method)
        return {"kind": "trial", "method": label, "config_hash": self.config_hash}

    def record(self) -> Record:
        tags = self._tags()
        return Record(
            id=f"{self.config_hash}-{self.start}",
            name=f"{self.method} {self.lam} {self.seed}",
            status=self.status,
            tags={**tags, **self.tags},
            params=self.params,
            metrics=self.metrics,
            start=self.start,
            end=self.start + 1,
        )

    def store(self, store: Store, parent: str | None = None, epochs: int = 3) -> str:
        """Writes the run as training does; the metrics of earlier epochs are halved."""
        tags = self._tags()
        under = {} if parent is None else {"mlflow.parentRunId": parent}
        with store.run(f"{self.method} {self.lam:g}", tags={**tags, **under, **self.tags}) as run:
            run.log_params(self.params)
            for epoch in range(epochs):
                factor = 1.0 if epoch == epochs - 1 else 0.5
                run.log_metrics({k: factor * v for k, v in self.metrics.items()}, step=epoch)
        if self.status != "FINISHED":
            store.client.set_terminated(run.id, self.status)
        return run.id


def seeds(trial: Trial, values: list[float]) -> list[Trial]:
    """The trial once for each value, with seeds from 0: accuracies, or losses for a regression."""
    if trial.accuracy is None:
        return [replace(trial, seed=seed, loss=value) for seed, value in enumerate(values)]
    return [replace(trial, seed=seed, accuracy=value) for seed, value in enumerate(values)]
