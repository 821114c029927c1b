"""The optimizers of a model, each asked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule

from l2keras._audit.subject import is_traced
from l2keras._keras import optimizers, own_decay
from l2keras._keras.held import own_optimizers, updated_variables


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


class Trainers:
    """The optimizers of a model, and which of them updates a variable."""

    def __init__(self, model: Any) -> None:
        self._main = getattr(model, "optimizer", None)
        self._others: list[tuple[Any, set[int]]] = []
        self._members: dict[int, Trainer] = {}
        traced = is_traced(model)
        for name, optimizer in own_optimizers(model).items():
            for member in optimizers.inner_optimizers(optimizer):
                decays = not (traced and own_decay.decay_set_too_late(member))
                prefix = "" if optimizer is self._main else f"{name}: "
                self._members.setdefault(id(member), _trainer(member, decays, prefix))
            if optimizer is not self._main:
                self._others.append((optimizer, updated_variables(optimizer) or set()))

    @property
    def lines(self) -> tuple[str, ...]:
        """What the report says about each optimizer."""
        return tuple(trainer.line for trainer in self._members.values())

    def of(self, variable: Any) -> Trainer | None:
        """The one that updates `variable`; None where that is not known.

        Keras builds the optimizer of `compile` for every variable, so that another one that was
        built for this one is it.
        """
        others = [one for one, updated in self._others if id(variable) in updated]
        optimizer = others[0] if others else self._main
        if optimizer is None:
            return None
        return self._members.get(id(own_decay.member_of(optimizer, variable)))


def _trainer(optimizer: Any, decays: bool, prefix: str) -> Trainer:
    rate = optimizers.current_learning_rate(optimizer)
    line = f"{prefix}{type(optimizer).__name__}, learning rate {rate:.7g}"
    schedule = optimizers.learning_rate_source(optimizer)
    if isinstance(schedule, LearningRateSchedule):
        line += f" ({type(schedule).__name__} at step {optimizers.updates_done(optimizer)})"
    gain = None
    if isinstance(optimizer, keras.optimizers.SGD):
        gain = 1 / (1 - optimizer.momentum)
    return Trainer(optimizer, rate, line, gain, decays)
