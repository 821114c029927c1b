"""The losses of a model, read once in a step, and metrics added to one that is compiled."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def penalized(model: Any) -> list[Any]:
    """The variables whose regularizers Keras evaluates: trainable ones, each once."""
    return [variable for variable in model.trainable_weights if variable.regularizer is not None]


class _Losses:
    """Stands for `values` until the first read of `model.losses`, which tests its truth."""

    def __init__(self, model: Any, values: list[Any]) -> None:
        self.values = values
        self.were_read = False
        self._model = model

    def __bool__(self) -> bool:
        self.were_read = True
        vars(self._model)["_losses_override"] = self.values
        return bool(self.values)


def note_read(model: Any) -> None:
    """Tells `losses_once` that the penalty was added up, though not from `model.losses`."""
    bool(model._losses_override)


@contextmanager
def losses_once(model: Any) -> Iterator[_Losses]:
    """`model.losses`, evaluated once: inside the block Keras reads these values, if any."""
    kept = model._losses_override  # of JAX's step, which has evaluated them already
    losses = _Losses(model, list(kept or model.losses))
    vars(model)["_losses_override"] = losses
    try:
        yield losses
    finally:
        vars(model)["_losses_override"] = kept


def add_metrics(model: Any, metrics: Sequence[Any]) -> Any:
    """Adds metrics to a compiled model and returns their container, for `remove_metrics`.

    The container is one of those in which EarlyStopping looks up a metric's direction.
    """
    compile_utils: Any = importlib.import_module("keras.src.trainers.compile_utils")
    container = compile_utils.MetricsList(list(metrics))
    container.result = container.get_result
    model._metrics.append(container)
    return container


def remove_metrics(model: Any, container: Any) -> None:
    """Takes the container out again, if it is there."""
    model._metrics[:] = [metric for metric in model._metrics if metric is not container]
