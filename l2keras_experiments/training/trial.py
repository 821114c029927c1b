"""One training run: config in, numbers and weights out. Knows neither Hydra nor MLflow."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from l2keras import AuditReport, audit, penalties
from l2keras_experiments.config.schema import Config
from l2keras_experiments.data import batches
from l2keras_experiments.data.datasets import Dataset
from l2keras_experiments.data.streams import StreamDataset, load_any
from l2keras_experiments.library import inner_optimizers, last_learning_rate
from l2keras_experiments.runtime import device, signals
from l2keras_experiments.training import checkpoint, saving
from l2keras_experiments.training import history as histories
from l2keras_experiments.training.models import build_model
from l2keras_experiments.training.objectives import (
    callbacks_of,
    check_class_weight,
    check_logits,
    check_on_targets,
    data_loss_metric,
    has_own_loss,
    loss_of,
    metrics_of,
)
from l2keras_experiments.training.optimizers import build_optimizer
from l2keras_experiments.training.regularization import Method, build_method, mistakes_named
from l2keras_experiments.training.selection import check_monitored
from l2keras_experiments.training.stopping import EarlyStopping, validated_epochs

OnEpoch = Callable[[int, dict[str, float]], None]
OnReport = Callable[[AuditReport], None]


@dataclass(frozen=True)
class TrialResult:
    """What a run leaves behind.

    Attributes:
        history: For each metric its values, one an epoch; where the weights of the best epoch
            were restored, then its values again.
        seconds: Wall time of `fit`, compilation included.
        steps_per_epoch: Batches in an epoch.
        test: Metrics on the test examples, measured once, after training.
        effective_lam: lambda in the half convention.
        model: The trained Keras model.
        report: What was decayed, by what, as audited before the first step.
        trajectory: All weights as one vector, before training and after every epoch;
            shape (epochs + 1, number of weights); None unless asked for.
    """

    history: dict[str, list[float]]
    seconds: float
    steps_per_epoch: int
    test: dict[str, float]
    effective_lam: float
    model: Any
    report: AuditReport
    trajectory: np.ndarray | None


@dataclass(frozen=True)
class Rehearsed:
    """What a run trains: built and checked, no step taken."""

    data: Dataset | StreamDataset
    method: Method
    model: Any
    callbacks: Sequence[Any]


def rehearse(config: Config, data: Dataset | StreamDataset | None = None) -> Rehearsed:
    """Builds what a run trains, so that whatever does not fit is answered before any record.

    Args:
        config: Of the run.
        data: What `config.data` names, where it has been loaded.

    Raises:
        ConfigError: a mistake in the config that only the data or the model shows.
    """
    if data is None:
        data = load_any(config.data, config.seed, config.training.dtype.value)
    steps, batch_size = batches.sizes(data, config.training)
    check_class_weight(config.training, data.task, data.num_outputs)
    num_steps = config.training.epochs * steps
    method = build_method(config, num_steps)
    device.begin_session(config)
    with device.distribution_scope(config, batch_size), mistakes_named():
        model = compiled_model(config, data, method, num_steps=num_steps)
        for callback in method.callbacks:  # which look at the model, then leave it as it was
            callback.set_model(model)
            callback.on_train_begin()
        for callback in reversed(method.callbacks):
            callback.on_train_end()
    return Rehearsed(data, method, model, callbacks_of(config.training))


def run_trial(
    config: Config,
    data: Dataset | StreamDataset,
    *,
    rehearsed: Rehearsed | None = None,
    on_epoch: OnEpoch | None = None,
    on_restored: OnEpoch | None = None,
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
        rehearsed: Of the same config and data, and of no other run since.
        on_epoch: Called with every epoch and its metrics, those of the checkpoint included.
        on_restored: Called with the number of epochs and the metrics of the best one, where
            early stopping restores its weights.
        on_report: Called with what is decayed, before the first step.
        keep_trajectory: Whether to keep the weights of every epoch.
        checkpoint_path: Where the state after the last epoch is kept. What is there is gone on
            with, to the same weights as without the interruption: to the last bit on a CPU.
            Unused for a StreamDataset, which cannot repeat an order from its middle.
    """
    training = config.training
    steps, batch_size = batches.sizes(data, training)
    if isinstance(data, StreamDataset):
        checkpoint_path = None
    rehearsed = rehearsed or rehearse(config, data)
    method, model = rehearsed.method, rehearsed.model
    report = audit(model, method.callbacks)
    if on_report is not None:
        on_report(report)
    keras.utils.set_random_seed(config.seed)  # dropout
    done = checkpoint.load(checkpoint_path, model) if checkpoint_path else None
    stopping = EarlyStopping(training)
    if checkpoint_path is not None and done is not None:
        stopping.load(checkpoint.best_path(checkpoint_path))
    recorder = EpochRecorder(
        method, report, on_epoch, keep_trajectory, checkpoint_path, done, stopping
    )
    epochs = range(recorder.first_epoch, training.epochs)
    if epochs and not stopping.is_over(recorder.history):
        with mistakes_named():
            model.fit(
                **batches.fit_arguments(
                    data, batch_size, config.seed, epochs, device.num_replicas(model)
                ),
                initial_epoch=epochs.start,
                epochs=epochs.stop,
                validation_freq=validated_epochs(training.epochs, training.validation_freq),
                class_weight=training.class_weight,
                shuffle=False,  # the order is that of the batches
                callbacks=[*method.callbacks, *rehearsed.callbacks, recorder],
                verbose=0,
            )
    weights = stopping.best_weights(recorder.history)
    if weights is not None:
        model.set_weights(weights)
        recorder.repeat(stopping.final_epoch(recorder.history), on_restored)
    seconds = recorder.seconds
    return TrialResult(
        history=recorder.history,
        seconds=seconds,
        steps_per_epoch=steps,
        test=test_metrics(model, data),
        effective_lam=method.effective_lam,
        model=model,
        report=report,
        trajectory=np.stack(recorder.trajectory) if keep_trajectory else None,
    )


def compiled_model(
    config: Config, data: Dataset | StreamDataset, method: Method, num_steps: int
) -> Any:
    """The model of a run, built from its seed and compiled."""
    model = build_model(config.model, data, method, config.seed, config.training.loss)
    if config.tracking.log_model:
        saving.check(model, config.model.target)
    output = getattr(model, "output_shape", None)
    if isinstance(output, tuple) and None not in output[1:]:
        check_on_targets(config.training, data.task, data.sample_targets, output[1:])
    optimizer = build_optimizer(
        config.optimizer,
        num_steps,
        weight_decay=method.optimizer_weight_decay,
        gradient_accumulation_steps=config.training.gradient_accumulation_steps,
        model=model,
        decayed=method.selected(model),
    )
    loss = loss_of(config.training, data.task)
    if not has_own_loss(model):
        check_logits(config.training, loss, model, config.model.target)
    # JAX without jit runs operation by operation; its own default is to compile.
    otherwise = "auto" if keras.backend.backend() == "jax" else False
    model.compile(
        optimizer,
        loss=loss,
        metrics=[
            *metrics_of(config.training, data.task),
            data_loss_metric(config.training, data.task),
        ],
        jit_compile=config.training.jit or otherwise,
        steps_per_execution=config.training.steps_per_execution,
    )
    check_monitored(config.training, data.task, model)
    return model


def test_metrics(model: Any, data: Dataset | StreamDataset) -> dict[str, float]:
    """The metrics of a compiled model on the test examples, as `test_...`; none without any.

    The loss with the penalty is not among them.
    """
    arguments = batches.test_arguments(data, device.num_replicas(model))
    if arguments is None:
        return {}
    found = model.evaluate(**arguments, verbose=0, return_dict=True)
    return {f"test_{key}": float(value) for key, value in found.items() if key != "loss"}


def _largest_decay(logs: dict[str, float]) -> dict[str, float]:
    """The logs with the largest lambda and decay where several act, which Keras' names number."""
    found: dict[str, float] = {}
    for key, value in logs.items():
        name = re.sub(r"^(weight_decay|decay_per_step)_\d+$", r"\1", key)
        found[name] = max(value, found.get(name, value))
    return found


class EpochRecorder(keras.callbacks.Callback):
    """Collects the metrics of every epoch, keeps its state, and its weights if asked to."""

    def __init__(
        self,
        method: Method,
        report: AuditReport,
        on_epoch: OnEpoch | None,
        keep_trajectory: bool,
        checkpoint_path: Path | None,
        done: checkpoint.Progress | None,
        stopping: EarlyStopping,
    ) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = done.history if done else {}
        self.first_epoch = done.epochs if done else 0
        self.trajectory: list[np.ndarray] = []
        self._began = time.perf_counter() - (done.seconds if done else 0.0)
        self._method, self._audited = method, report
        self._on_epoch = on_epoch
        self._keep_trajectory = keep_trajectory
        self._checkpoint_path = checkpoint_path
        self._stopping = stopping
        self._decayed: list[Any] = []
        for epoch in range(self.first_epoch):
            self._report(epoch)

    @property
    def seconds(self) -> float:
        """Since training began, what a checkpoint has counted included."""
        return time.perf_counter() - self._began

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._decayed = self._method.selected(self.model)
        self._keep_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        metrics = _largest_decay({key: float(value) for key, value in (logs or {}).items()})
        metrics.update(self._weight_metrics())
        rate = last_learning_rate(inner_optimizers(self.model.optimizer)[0])
        metrics["learning_rate"] = rate
        metrics.setdefault("decay_per_step", rate * self._method.effective_lam)
        histories.append(self.history, metrics)
        self._keep_weights()
        self._report(epoch)
        self._stopping.observe(self.history, self.model.get_weights)
        self.model.stop_training |= self._stopping.is_over(self.history)
        if self._checkpoint_path is not None:
            self._stopping.save(checkpoint.best_path(self._checkpoint_path))
            progress = checkpoint.Progress(self.history, self.seconds)
            checkpoint.save(self._checkpoint_path, self.model, progress)
        signals.check()

    def repeat(self, epoch: int, on_restored: OnEpoch | None) -> None:
        """Ends the history with the metrics of `epoch`, whose weights have been restored."""
        epochs, metrics = histories.num_epochs(self.history), histories.row(self.history, epoch)
        histories.append(self.history, metrics)
        if on_restored is not None:
            on_restored(epochs, metrics)

    def _report(self, epoch: int) -> None:
        if self._on_epoch is not None:
            self._on_epoch(epoch, histories.measured(self.history, epoch))

    def _weight_metrics(self) -> dict[str, float]:
        """`weight_norm` of the decayed variables, and their penalty."""
        norms = [penalties.half_squared_norm(variable) for variable in self._decayed]
        half = sum(float(keras.ops.convert_to_numpy(norm)) for norm in norms)
        return {"weight_norm": (2 * half) ** 0.5, **self._penalty()}

    def _penalty(self) -> dict[str, float]:
        """The sum of lam/2 * |W|^2, each variable with its lam; nothing where that is not it.

        Decay that depends on more than W, such as `cautious` or `toward`, has no such penalty.
        """
        rows = self._audited.rows
        decays = [decay for row in rows for decay in row.callbacks]
        if any(decay.schedule for decay in decays):  # lam of now
            rows = audit(self.model, self._method.callbacks).rows
        if any(row.lam is None or row.l1 for row in rows) or any(decay.form for decay in decays):
            return {}
        total = 0.0
        weights = {id(variable): variable for variable in self.model.weights}.values()
        for row, variable in zip(rows, weights, strict=True):
            if row.lam:
                half = keras.ops.convert_to_numpy(penalties.half_squared_norm(variable))
                total += row.lam * float(half)
        return {"penalty": total}

    def _keep_weights(self) -> None:
        if self._keep_trajectory:
            weights = [np.ravel(weight) for weight in self.model.get_weights()]
            self.trajectory.append(np.concatenate(weights))
