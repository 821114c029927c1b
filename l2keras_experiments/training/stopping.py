"""Early stopping that a killed run resumes: the best epoch follows from the history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from l2keras_experiments.config.schema import ConfigError, TrainingConfig
from l2keras_experiments.training import checkpoint
from l2keras_experiments.training.history import num_epochs
from l2keras_experiments.training.selection import higher_is_better, monitor_of


class EarlyStopping:
    """Ends a training `patience` epochs after the best one, and restores that one's weights.

    Without a patience it ends no training and restores nothing.
    """

    def __init__(self, training: TrainingConfig) -> None:
        self._config = training.early_stopping
        self._monitor = monitor_of(training)
        stops = self._config.patience is not None
        self._sign = 1.0 if stops and higher_is_better(training, self._monitor) else -1.0
        self._restores = stops and self._config.restore_best
        self._weights: list[np.ndarray] | None = None
        self._is_saved = False

    def best_epoch(self, history: Mapping[str, Sequence[float]]) -> int:
        """The first epoch that no later one improves by more than `min_delta`.

        Raises:
            ConfigError: the monitored metric is not measured.
        """
        if self._monitor not in history:
            raise ConfigError(
                "`training.early_stopping.monitor` must be a metric of the run. "
                f"Received: {self._monitor}. Choose among: {', '.join(history)}."
            )
        best, value = 0, -np.inf
        for epoch, raw in enumerate(history[self._monitor]):
            if self._sign * raw > value + (self._config.min_delta if np.isfinite(value) else 0.0):
                best, value = epoch, self._sign * raw
        return best

    def is_over(self, history: Mapping[str, Sequence[float]]) -> bool:
        """Whether the training has stopped."""
        patience, epochs = self._config.patience, num_epochs(history)
        if patience is None or not epochs:
            return False
        return epochs - 1 - self.best_epoch(history) >= patience

    def final_epoch(self, history: Mapping[str, Sequence[float]]) -> int:
        """The epoch whose weights a run has that ends with the last one."""
        last = num_epochs(history) - 1
        return last if self._weights is None else self.best_epoch(history)

    def observe(
        self,
        history: Mapping[str, Sequence[float]],
        weights: Callable[[], Sequence[np.ndarray]],
    ) -> None:
        """Copies the weights of the epoch that has just ended, if it is the best."""
        if self._restores and self.best_epoch(history) == num_epochs(history) - 1:
            self._weights = [np.array(weight) for weight in weights()]
            self._is_saved = False

    def save(self, path: Path) -> None:
        """Writes the best weights.

        Call it before the checkpoint of an epoch is written: a kill then leaves no checkpoint
        without them.
        """
        if self._weights is not None and not self._is_saved:
            checkpoint.write(path, self._weights, checkpoint.Progress({}, 0.0))
            self._is_saved = True

    def load(self, path: Path) -> None:
        """Reads what `save` has written; nothing, with a warning, where the file is damaged."""
        found = checkpoint.read(path) if self._restores else None
        if found is not None:
            self._weights, self._is_saved = found[0], True

    def best_weights(self, history: Mapping[str, Sequence[float]]) -> list[np.ndarray] | None:
        """The weights to restore after training; None where those of the last epoch stay."""
        is_last = self.final_epoch(history) == num_epochs(history) - 1
        return None if is_last else self._weights


def validated_epochs(epochs: int, frequency: int) -> int | list[int]:
    """For `fit`: every `frequency`th epoch, and the last."""
    if frequency == 1:
        return 1
    return sorted({*range(frequency, epochs + 1, frequency), epochs})
