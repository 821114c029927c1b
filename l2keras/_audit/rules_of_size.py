"""Findings about decay that is too strong: a step turns signs, or the weights grow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from l2keras._audit.rows import Finding
from l2keras._audit.subject import Item, Subject, paths, peak_or_current, sources

_TOLERANCE = 1e-6  # learning rates are float32


@dataclass(frozen=True)
class _Strength:
    """What decay alone does to W in a step at the largest learning rate that is known.

    With s = eta * lam of decoupled decay, a = eta * lam in the gradient and momentum mu,

        v <- mu * v - a * W        W <- (1 - s) * W + v,    or  + mu * v - a * W  (Nesterov)

    takes s + a of W away in the first step, s + a * (1 + mu) under Nesterov. It is stable
    where s / 2 + a / limit < 1, by Jury's criterion for the matrix of (W, v), with

        limit = 2 * (1 + mu)        2 * (1 + mu) / (1 + 2 * mu)  (Nesterov)

    Attributes:
        taken: The part of W that the first step takes away.
        load: Above 1 the weights grow without bound.
    """

    taken: float
    load: float


def decay_too_large(subject: Subject) -> Iterator[Finding]:
    """Decay that takes all of W away in a step, or more, or so much that W grows."""
    peaks = {id(optimizer): peak_or_current(optimizer) for optimizer in subject.optimizers}
    groups: dict[tuple[bool, str, float, str], list[Item]] = defaultdict(list)
    for item in subject.items:
        if item.optimizer is None or not item.row.trainable:
            continue
        peak = peaks[id(item.optimizer)]
        strength = _strength(item, peak)
        diverges = strength.load > 1 + _TOLERANCE
        if diverges or strength.taken > 1 - _TOLERANCE:
            by = " and ".join(dict.fromkeys(sources(item.row)))
            groups[diverges, f"{strength.taken:.3g}", peak, by].append(item)
    for (diverges, taken, peak, by), items in groups.items():
        effect = "they grow without bound" if diverges else "it erases them or turns their sign"
        yield Finding(
            "error" if diverges else "warning",
            "decay-diverges" if diverges else "decay-turns-signs",
            f"At the learning rate {peak:.3g} a step takes {taken} times the weights away, so that "
            f"{effect}; by {by}: {paths(items)}.",
            f"Keep learning rate * lam well below 1: lam below {1 / peak:.3g}, c of L2(c) below "
            f'{0.5 / peak:.3g}, lam of coupling="independent" below 1.',
        )


def _strength(item: Item, peak: float) -> _Strength:
    lams = {"coupled": item.row.lam_regularizer or 0.0, "decoupled": item.row.lam_optimizer}
    for decay in item.row.callbacks:
        kind = "coupled" if decay.coupling == "coupled" else "decoupled"
        lams[kind] += decay.strongest or 0.0
    if not isinstance(item.optimizer, keras.optimizers.SGD):
        lams["coupled"] = 0.0  # the optimizer rescales it
    return _in_a_step(item.optimizer, peak * lams["decoupled"], peak * lams["coupled"])


def _in_a_step(optimizer: Any, decoupled: float, coupled: float) -> _Strength:
    momentum = float(getattr(optimizer, "momentum", 0.0)) if coupled else 0.0
    gain, limit = 1.0, 2 * (1 + momentum)
    if momentum and optimizer.nesterov:
        gain, limit = 1 + momentum, limit / (1 + 2 * momentum)
    is_clipped = optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm
    load = decoupled / 2 + (0.0 if is_clipped else coupled / limit)  # clipped, it is bounded
    return _Strength(decoupled + gain * coupled, load)
