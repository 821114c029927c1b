"""The metrics of a run by epoch, whichever way it is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

History = dict[str, list[float]]  # for each metric its values, one an epoch


def num_epochs(history: Mapping[str, Sequence[float]]) -> int:
    """The number of epochs that a history has."""
    return max(map(len, history.values()), default=0)


def append(history: History, metrics: Mapping[str, float]) -> None:
    """Adds an epoch; a metric that the epoch did not measure is nan."""
    epochs = num_epochs(history)
    for key in {**history, **metrics}:
        history.setdefault(key, [math.nan] * epochs).append(metrics.get(key, math.nan))


def row(history: Mapping[str, Sequence[float]], epoch: int) -> dict[str, float]:
    """Returns the metrics of an epoch."""
    return {key: values[epoch] for key, values in history.items()}


def measured(history: Mapping[str, Sequence[float]], epoch: int) -> dict[str, float]:
    """Returns the metrics of an epoch; without those of a validation that it did not have."""
    values = row(history, epoch)
    return {k: v for k, v in values.items() if not (k.startswith("val_") and math.isnan(v))}
