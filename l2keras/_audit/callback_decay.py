"""What the WeightDecay callbacks of a `fit` will do to each variable, before it begins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keras.optimizers.schedules import LearningRateSchedule

from l2keras._audit.rows import CallbackDecay, Finding
from l2keras._audit.subject import peak_or_current
from l2keras._decay.rules import Lam, Target, lam_at
from l2keras._keras import held, optimizers

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
            found = _decays_of(model, callback)
        except (TypeError, ValueError) as error:
            failures.append(_refused(callback, error))
            continue
        for key, decay in found.items():
            decays.setdefault(key, []).append(decay)
    return decays, failures


def _decays_of(model: Any, callback: Any) -> dict[int, CallbackDecay]:
    known = callback.optimizer is not None or getattr(model, "optimizer", None) is not None
    optimizer = callback._optimizer_of(model) if known else None
    members = [] if optimizer is None else optimizers.inner_optimizers(optimizer)
    step = int(members[0].iterations) if members else 0
    rate = max(map(optimizers.current_learning_rate, members)) if members else None
    top = max(map(peak_or_current, members)) if members else None
    # Anchors and tables are state of the callback, which a report is not to create.
    rule = replace(callback._rule_for(optimizer), anchors=None, tables=None)
    peak = max(rule.peaks.values(), default=callback.peak_learning_rate)
    forms = [name for name in ("cautious", "stable") if getattr(callback, name)]
    forms += [] if callback.toward is None else [f"toward {Path(callback.toward).name}"]
    is_own = callback.optimizer is not None and callback.include is None
    updated = held.updated_variables(optimizer) if is_own else None
    values = {id(lam): _values(lam, step) for _, lam in rule.lams}
    return {
        id(target.variable): _decay_of(target, values[id(target.lam)], (rate, top, peak), forms)
        for target in rule.targets(model)
        if updated is None or id(target.variable) in updated
    }


@dataclass(frozen=True)
class _Values:
    """What a lam comes to: evaluated once, however many variables it is for."""

    now: float
    largest: float
    config: str | None = None  # of a schedule
    probed: tuple[float, ...] = ()  # of a callable


def _values(lam: Lam, step: int) -> _Values:
    now = float(lam_at(lam, step))
    if isinstance(lam, LearningRateSchedule):
        config = json.dumps(lam.get_config(), sort_keys=True, default=str)
        return _Values(now, _largest(lam, now), config=f"{type(lam).__name__} {config}")
    if callable(lam):
        return _Values(now, now, probed=tuple(float(lam_at(lam, one)) for one in _PROBED_STEPS))
    return _Values(now, now)


def _largest(schedule: Any, now: float) -> float:
    try:
        return optimizers.peak_of_schedule(schedule)
    except ValueError:
        return now


def _decay_of(
    target: Target,
    values: _Values,
    rates: tuple[float | None, float | None, float | None],
    forms: list[str],
) -> CallbackDecay:
    """`rates`: the learning rate now, the largest one, and the peak that lam is relative to."""
    rate, top, peak = rates
    counts_for: float | None = 1.0
    at_top: float | None = 1.0
    if target.rule.coupling == "independent":
        counts_for = at_top = None if peak is None else 1 / peak
    elif target.corrected:
        forms = ["corrected", *forms]
        counts_for = None if peak is None or rate is None else rate / peak
        at_top = None if peak is None or top is None else top / peak
    if target.rule.stable:  # it depends on the gradients
        at_top = None
    return CallbackDecay(
        lam=target.scale * values.now,
        coupling=target.rule.coupling,
        counts_for=counts_for,
        schedule=_schedule(values, target.scale),
        form=", ".join(forms),
        strongest=None if at_top is None else target.scale * values.largest * at_top,
    )


def _schedule(values: _Values, scale: float) -> str | None:
    """What tells one schedule of lam from another, whatever step it has come to."""
    if values.config is not None:
        return f"{scale:g} {values.config}"
    return " ".join(f"{scale * value:.6g}" for value in values.probed) or None


def _refused(callback: Any, error: Exception) -> Finding:
    return Finding(
        "error",
        "callback-refused",
        f"`fit` will refuse {callback!r}: {error}",
        "Correct the callback; the report leaves its decay out.",
    )
