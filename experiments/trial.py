"""One training run: config in, numbers and weights out. Knows neither Hydra nor MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from experiments import checkpoint, device, pipeline, signals
from experiments.data import Dataset
from experiments.models import build_model
from experiments.optimizers import build_optimizer
from experiments.regularization import Method, build_method
from experiments.schema import Config
from l2keras import AuditReport, audit, masks, penalties
from l2keras._keras import optimizers

OnEpoch = Callable[[int, dict[str, float]], None]
OnReport = Callable[[AuditReport], None]


@dataclass(frozen=True)
class TrialResult:
    """What a run leaves behind.

    Attributes:
        history: For each metric its values, one an epoch.
        seconds: Wall time of `fit`, compilation included.
        steps_per_epoch: Batches in an epoch.
        effective_lam: lambda in the half convention.
        model: The trained Keras model.
        report: What was decayed, by what, as audited before the first step.
        trajectory: All weights as one vector, before training and after every epoch;
            shape (epochs + 1, number of weights); None unless asked for.
    """

    history: dict[str, list[float]]
    seconds: float
    steps_per_epoch: int
    effective_lam: float
    model: Any
    report: AuditReport
    trajectory: np.ndarray | None


def run_trial(
    config: Config,
    data: Dataset,
    *,
    on_epoch: OnEpoch | None = None,
    on_report: OnReport | None = None,
    keep_trajectory: bool = False,
    checkpoint_path: Path | None = None,
) -> TrialResult:
    """Trains one model on `data` as `config` says.

    The initial weights, the batches and any dropout depend on `config.seed` alone, so that
    runs that differ in their regularization differ in nothing else.

    Args:
        config: Of the run.
        data: What `config.data` names.
        on_epoch: Called with every epoch and its metrics, those of the checkpoint included.
        on_report: Called with what is decayed, before the first step.
        keep_trajectory: Whether to keep the weights of every epoch.
        checkpoint_path: Where the state after the last epoch is kept. What is there is gone on
            with, to the same weights as without the interruption: to the last bit on a CPU.
    """
    training = config.training
    steps = pipeline.steps_per_epoch(len(data.x_train), training.batch_size)
    method = build_method(config.regularization, config.optimizer.learning_rate)
    keras.utils.clear_session(free_memory=False)
    batch_size = min(training.batch_size, len(data.x_train))
    with device.distribution_scope(config, batch_size):
        model = compiled_model(config, data, method, num_steps=training.epochs * steps)
    report = audit(model, method.callbacks)
    if on_report is not None:
        on_report(report)
    keras.utils.set_random_seed(config.seed)  # dropout
    done = checkpoint.load(checkpoint_path, model) if checkpoint_path else None
    recorder = EpochRecorder(method, on_epoch, keep_trajectory, checkpoint_path, done)
    epochs = range(recorder.first_epoch, training.epochs)
    if epochs:
        model.fit(
            pipeline.training_batches(data, training.batch_size, config.seed, epochs),
            steps_per_epoch=steps,
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            validation_data=pipeline.evaluation_data(data),
            validation_batch_size=2048,
            shuffle=False,  # the order is in the batches
            callbacks=[*method.callbacks, recorder],
            verbose=0,
        )
    return TrialResult(
        history=recorder.history,
        seconds=recorder.seconds,
        steps_per_epoch=steps,
        effective_lam=method.effective_lam,
        model=model,
        report=report,
        trajectory=np.stack(recorder.trajectory) if keep_trajectory else None,
    )


def compiled_model(config: Config, data: Dataset, method: Method, num_steps: int) -> Any:
    """The model of a run, built from its seed and compiled."""
    model = build_model(config.model, data, method.regularizer, config.seed)
    optimizer = build_optimizer(
        config.optimizer,
        num_steps,
        weight_decay=method.optimizer_weight_decay,
        gradient_accumulation_steps=config.training.gradient_accumulation_steps,
        model=model,
    )
    classification = data.task == "classification"
    # JAX without jit runs operation by operation; its own default is to compile.
    otherwise = "auto" if keras.backend.backend() == "jax" else False
    model.compile(
        optimizer,
        loss=data_loss(classification),
        metrics=[*metrics_of(classification), _data_loss_metric(classification)],
        jit_compile=config.training.jit or otherwise,
        steps_per_execution=config.training.steps_per_execution,
    )
    return model


def data_loss(classification: bool) -> Any:
    """The loss without any penalty."""
    if classification:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return keras.losses.MeanSquaredError()


def metrics_of(classification: bool) -> list[Any]:
    """What is measured beside losses."""
    return ["accuracy"] if classification else []


def _data_loss_metric(classification: bool) -> Any:
    """The loss without the penalty; Keras' own `loss` and `val_loss` contain it."""
    if classification:
        return keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="data_loss")
    return keras.metrics.MeanSquaredError(name="data_loss")


class EpochRecorder(keras.callbacks.Callback):
    """Collects the metrics of every epoch, keeps its state, and its weights if asked to."""

    def __init__(
        self,
        method: Method,
        on_epoch: OnEpoch | None,
        keep_trajectory: bool,
        checkpoint_path: Path | None,
        done: checkpoint.Progress | None,
    ) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = done.history if done else {}
        self.first_epoch = done.epochs if done else 0
        self.trajectory: list[np.ndarray] = []
        self._began = time.perf_counter() - (done.seconds if done else 0.0)
        self._method = method
        self._on_epoch = on_epoch
        self._keep_trajectory = keep_trajectory
        self._checkpoint_path = checkpoint_path
        self._decayed: list[Any] = []
        for epoch in range(self.first_epoch):
            self._tell(epoch, {key: values[epoch] for key, values in self.history.items()})

    @property
    def seconds(self) -> float:
        """Since training began, what a checkpoint has counted included."""
        return time.perf_counter() - self._began

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._decayed = masks.select(self.model)
        self._keep_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        metrics = {key: float(value) for key, value in (logs or {}).items()}
        metrics.update(self._weight_metrics())
        rate = optimizers.last_learning_rate(optimizers.inner_optimizers(self.model.optimizer)[0])
        metrics["learning_rate"] = rate
        metrics.setdefault("decay_per_step", rate * self._method.effective_lam)
        for key, value in metrics.items():
            self.history.setdefault(key, []).append(value)
        self._keep_weights()
        self._tell(epoch, metrics)
        if self._checkpoint_path is not None:
            progress = checkpoint.Progress(self.history, self.seconds)
            checkpoint.save(self._checkpoint_path, self.model, progress)
        signals.check()

    def _tell(self, epoch: int, metrics: dict[str, float]) -> None:
        if self._on_epoch is not None:
            self._on_epoch(epoch, metrics)

    def _weight_metrics(self) -> dict[str, float]:
        """`weight_norm` of the decayed variables, and the penalty that lambda puts on them."""
        norms = [penalties.half_squared_norm(variable) for variable in self._decayed]
        half = sum(float(keras.ops.convert_to_numpy(norm)) for norm in norms)
        return {"weight_norm": (2 * half) ** 0.5, "penalty": self._method.effective_lam * half}

    def _keep_weights(self) -> None:
        if self._keep_trajectory:
            weights = [np.ravel(weight) for weight in self.model.get_weights()]
            self.trajectory.append(np.concatenate(weights))
