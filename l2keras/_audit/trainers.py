"""The optimizers of a model, each asked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule

from l2keras._audit.subject import is_traced
from l2keras._keras import optimizers, own_decay


@dataclass(frozen=True)
class Trainer:
    """One optimizer, asked once.

    Attributes:
        optimizer: The optimizer itself, unwrapped.
        learning_rate: Now.
        line: What the report says about it.
        coupled_gain: What coupled decay is multiplied by in the long run: 1 / (1 - momentum)
            under SGD; None under optimizers that rescale gradients.
        decays: False where its weight_decay was set too late for the step that is compiled.
    """

    optimizer: Any
    learning_rate: float
    line: str
    coupled_gain: float | None
    decays: bool

    def own_decay(self, variable: Any) -> float:
        """The coefficient of its own weight_decay for `variable` in the step that acts."""
        return own_decay.own_decay(self.optimizer, variable) if self.decays else 0.0


def trainers_of(model: Any) -> dict[int, Trainer]:
    """The optimizers that update the variables of `model`, by id."""
    optimizer = getattr(model, "optimizer", None)
    members = [] if optimizer is None else optimizers.inner_optimizers(optimizer)
    traced = is_traced(model)
    return {
        id(member): _trainer(member, not (traced and own_decay.decay_set_too_late(member)))
        for member in members
    }


def _trainer(optimizer: Any, decays: bool) -> Trainer:
    rate = optimizers.current_learning_rate(optimizer)
    line = f"{type(optimizer).__name__}, learning rate {rate:.7g}"
    schedule = optimizers.learning_rate_source(optimizer)
    if isinstance(schedule, LearningRateSchedule):
        line += f" ({type(schedule).__name__} at step {int(optimizer.iterations)})"
    gain = None
    if isinstance(optimizer, keras.optimizers.SGD):
        gain = 1 / (1 - optimizer.momentum)
    return Trainer(optimizer, rate, line, gain, decays)
