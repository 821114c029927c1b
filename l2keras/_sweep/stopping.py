"""Early stopping of each member by itself, by Keras' own callback."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from l2keras import _validation
from l2keras._sweep.members import State

OWN = ("data_loss", "penalty", "val_data_loss", "val_penalty")  # that Keras does not know of

Logs = dict[str, float]


def check_early_stopping(stopping: Any, names: Sequence[str], metrics: Sequence[Any]) -> None:
    """Raises ValueError for an EarlyStopping that would never stop a member.

    Args:
        stopping: A `keras.callbacks.EarlyStopping`, or None.
        names: What each epoch of a member logs.
        metrics: Of the compiled model. Keras raises where they do not say whether more is better.
    """
    if stopping is None:
        return
    if stopping.monitor not in names:
        raise ValueError(
            _validation.error(
                "`early_stopping` must monitor what the sweep logs.",
                f"monitor={stopping.monitor!r}, where {', '.join(names)} are logged",
                "Pass one of these, or validation_data for those that begin with val_.",
            )
        )
    Stopper(stopping, metrics).stops(0, dict.fromkeys(names, 0.0), lambda: State([], []))


class Stopper:
    """Keras' EarlyStopping on one member, to which it is the model.

    Args:
        callback: A `keras.callbacks.EarlyStopping`.
        metrics: Of the compiled model: they know whether more is better.
    """

    def __init__(self, callback: Any, metrics: Sequence[Any]) -> None:
        self._callback = copy.copy(callback)
        if callback.mode == "auto" and callback.monitor in OWN:
            self._callback.mode = "min"
        self.metrics = metrics
        self.stop_training = False
        self._callback.set_model(self)
        self._callback.on_train_begin()

    def stops(self, epoch: int, logs: Logs, state: Callable[[], State]) -> bool:
        self._state = state
        self._callback.on_epoch_end(epoch, logs)
        del self._state  # it holds the group
        return self.stop_training

    def get_weights(self) -> State:
        """What Keras keeps as the best weights."""
        return self._state()

    @property
    def best(self) -> State | None:
        """The state of the best epoch, where it is to be restored."""
        best: State | None = self._callback.best_weights
        return best
