"""What decay alone does to W in a step at the largest learning rate that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from l2keras._audit.subject import peak_or_current


@dataclass(frozen=True)
class Strength:
    """How much decay takes, and whether W can stay finite; both add up over several sources.

    With s = eta * lam of decoupled decay, a = eta * lam in the gradient and momentum mu,

        v <- mu * v - a * W        W <- (1 - s) * W + v,    or  + mu * v - a * W  (Nesterov)

    takes s + a of W away in the first step, s + a * (1 + mu) under Nesterov. It is stable
    where s / 2 + a / limit < 1, by Jury's criterion for the matrix of (W, v), with

        limit = 2 * (1 + mu)        2 * (1 + mu) / (1 + 2 * mu)  (Nesterov)

    Attributes:
        taken: The part of W that the first step takes away.
        load: Above 1 the weights grow without bound.
    """

    taken: float = 0.0
    load: float = 0.0

    def __add__(self, other: Strength) -> Strength:
        return Strength(self.taken + other.taken, self.load + other.load)


def strength_of(optimizer: Any, lam: float, *, coupled: bool) -> Strength:
    """The strength of `lam` in the updates of `optimizer`; none where that is not known."""
    if optimizer is None or not lam:
        return Strength()
    shrink = peak_or_current(optimizer) * lam
    if not coupled:
        return Strength(shrink, shrink / 2)
    if not isinstance(optimizer, keras.optimizers.SGD):
        return Strength()  # it rescales the gradient
    momentum, gain = float(optimizer.momentum), 1.0
    limit = 2 * (1 + momentum)
    if momentum and optimizer.nesterov:
        gain, limit = 1 + momentum, limit / (1 + 2 * momentum)
    is_clipped = optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm
    return Strength(gain * shrink, 0.0 if is_clipped else shrink / limit)
