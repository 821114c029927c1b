"""What the WeightDecay callbacks of a `fit` will do to each variable, before it begins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from keras.optimizers.schedules import LearningRateSchedule

from l2keras import _optimizers, masks
from l2keras._rows import CallbackDecay, Finding
from l2keras._train_function import DecayRule

# A callable has no description but its values: these steps tell most of them apart.
_PROBED_STEPS = (0, 1, 10, 100, 1_000, 10_000, 100_000)


def is_weight_decay(callback: Any) -> bool:
    """True for a WeightDecay, which is above this module and cannot be imported here."""
    return hasattr(callback, "lam") and hasattr(callback, "coupling")


def decay_by_callbacks(
    model: Any, callbacks: Sequence[Any]
) -> tuple[dict[int, list[CallbackDecay]], list[Finding]]:
    """What every callback does, by `id(variable)`; one that `fit` would refuse is a finding."""
    decays: dict[int, list[CallbackDecay]] = {}
    failures: list[Finding] = []
    for callback in filter(is_weight_decay, callbacks):
        try:
            chosen = masks.select(model, callback.include, callback.exclude)
            decay = _decay_of(callback, getattr(model, "optimizer", None))
        except (TypeError, ValueError) as error:
            failures.append(_refused(callback, error))
            continue
        for variable in chosen:
            decays.setdefault(id(variable), []).append(decay)
    return decays, failures


def _decay_of(callback: Any, optimizer: Any) -> CallbackDecay:
    members = [] if optimizer is None else _optimizers.inner_optimizers(optimizer)
    rule = DecayRule(callback.lam, callback.coupling, callback.include, callback.exclude, None)
    step = int(members[0].iterations) if members else 0
    peak = None
    if callback.coupling == "independent":
        peak = callback.peak_learning_rate
        if peak is None and members:
            peak = max(map(_optimizers.peak_learning_rate, members))
    return CallbackDecay(float(rule.lam_at(step)), callback.coupling, peak, _schedule(rule))


def _schedule(rule: DecayRule) -> str | None:
    """What tells one schedule of lam from another, whatever step it has come to."""
    lam = rule.lam
    if isinstance(lam, LearningRateSchedule):
        return f"{type(lam).__name__} {json.dumps(lam.get_config(), sort_keys=True, default=str)}"
    if callable(lam):
        return " ".join(f"{float(rule.lam_at(step)):.6g}" for step in _PROBED_STEPS)
    return None


def _refused(callback: Any, error: Exception) -> Finding:
    return Finding(
        "error",
        "callback-refused",
        f"`fit` will refuse {callback!r}: {error}",
        "Correct the callback; the report leaves its decay out.",
    )
