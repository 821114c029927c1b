"""Early stopping that a killed run resumes: which epoch is best is read off the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l2keras_experiments.config.schema import ConfigError, EarlyStoppingConfig
from l2keras_experiments.training import checkpoint
from l2keras_experiments.training.objectives import is_better_if_higher

History = Mapping[str, Sequence[float]]


class EarlyStopping:
    """Ends a training `patience` epochs after the best one, and keeps that one's weights.

    Args:
        config: With a patience.
        path: Of a file for the weights of the best epoch, or None.
    """

    def __init__(self, config: EarlyStoppingConfig, path: Path | None) -> None:
        self._config, self._path = config, path
        self._sign = 1.0 if is_better_if_higher(config.monitor, config.mode) else -1.0
        self._weights: list[np.ndarray] | None = None

    def best_epoch(self, history: History) -> int:
        """The first epoch that no later one improves by more than `min_delta`.

        Raises:
            ConfigError: the monitored metric is not measured.
        """
        if self._config.monitor not in history:
            raise ConfigError(
                "`training.early_stopping.monitor` must be a metric of the run. "
                f"Received: {self._config.monitor}. Choose among: {', '.join(history)}."
            )
        best, value = 0, -np.inf
        for epoch, raw in enumerate(history[self._config.monitor]):
            if self._sign * raw > value + (self._config.min_delta if np.isfinite(value) else 0.0):
                best, value = epoch, self._sign * raw
        return best

    def is_over(self, history: History) -> bool:
        """Whether the training has stopped."""
        if not history:
            return False
        patience = self._config.patience
        epochs = len(history.get(self._config.monitor, ()))
        return patience is not None and epochs - 1 - self.best_epoch(history) >= patience

    def keep(self, model: Any, history: History) -> None:
        """Keeps the weights of an epoch just ended if it is the best; to be called before the
        checkpoint of that epoch is written, so that a kill leaves no checkpoint without them."""
        epochs = len(history[self._config.monitor]) if self._config.monitor in history else 0
        if self.best_epoch(history) == epochs - 1 and self._config.restore_best:
            self._weights = [np.array(weight) for weight in model.get_weights()]
            if self._path is not None:
                checkpoint.write(self._path, self._weights, checkpoint.Progress({}, 0.0))

    def restore(self, model: Any, history: dict[str, list[float]]) -> dict[str, float] | None:
        """Gives a trained model the weights of the best epoch; returns its metrics.

        They are appended to the history, so that its last values belong to the weights. None
        where the last epoch is the best one.
        """
        epochs = len(history.get(self._config.monitor, ()))
        best = self.best_epoch(history) if epochs else 0
        if not epochs or not self._config.restore_best or best == epochs - 1:
            return None
        if self._weights is None and self._path is not None:
            found = checkpoint.read(self._path)
            self._weights = found[0] if found else None
        if self._weights is None:  # its file is damaged, as has been said
            return None
        model.set_weights(self._weights)
        metrics = {key: values[best] for key, values in history.items()}
        for key, value in metrics.items():
            history[key].append(value)
        return metrics


def validated_epochs(epochs: int, frequency: int) -> int | list[int]:
    """For `fit`: every `frequency`th epoch, and the last."""
    if frequency == 1:
        return 1
    return sorted({*range(frequency, epochs + 1, frequency), epochs})
