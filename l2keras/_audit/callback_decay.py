"""What the WeightDecay callbacks of a `fit` will do to each variable, before it begins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keras.optimizers.schedules import LearningRateSchedule

from l2keras import _validation
from l2keras._audit.rows import CallbackDecay, Finding
from l2keras._audit.strength import Strength, strength_of
from l2keras._audit.subject import peak_or_current
from l2keras._decay.rules import Lam, Target, lam_at
from l2keras._keras import optimizers, own_decay

# A callable has no description but its values: these steps tell most of them apart.
_PROBED_STEPS = (0, 1, 10, 100, 1_000, 10_000, 100_000)


def is_weight_decay(callback: Any) -> bool:
    """True for a WeightDecay, which is above this module and cannot be imported here."""
    return hasattr(callback, "lam") and hasattr(callback, "coupling")


def decay_by_callbacks(
    model: Any, callbacks: Sequence[Any]
) -> tuple[dict[int, list[CallbackDecay]], dict[int, Finding]]:
    """What every callback does, by `id(variable)`.

    One that `fit` would refuse does nothing: it is a finding, by `id(callback)`.
    """
    decays: dict[int, list[CallbackDecay]] = {}
    failures: dict[int, Finding] = {}
    for callback in filter(is_weight_decay, callbacks):
        try:
            callback._check_arguments()
            found = _decays_of(model, callback)
        except (TypeError, ValueError) as error:
            failures[id(callback)] = _refused(callback, error)
            continue
        for key, decay in found.items():
            decays.setdefault(key, []).append(decay)
    return decays, failures


def _decays_of(model: Any, callback: Any) -> dict[int, CallbackDecay]:
    known = callback.optimizer is not None or getattr(model, "optimizer", None) is not None
    optimizer = callback._optimizer_of(model) if known else None
    members = [] if optimizer is None else optimizers.inner_optimizers(optimizer)
    step = optimizers.updates_done(members[0]) if members else 0
    rate = max(map(optimizers.current_learning_rate, members)) if members else None
    # Anchors and tables are state of the callback, which a report is not to create.
    rule = replace(callback._rule_in_force(model, optimizer), anchors=None, tables=None)
    peak = max(rule.peaks.values(), default=callback.peak_learning_rate)
    forms = [name for name in ("cautious", "stable") if getattr(callback, name)]
    forms += [] if callback.toward is None else [f"toward {Path(callback.toward).name}"]
    is_own = callback.optimizer is not None and callback.include is None
    updated = callback._updated_by(model, optimizer) if is_own else None
    is_known = updated is not None or not is_own
    values = {id(lam): _values(lam, step) for _, lam in rule.lams}
    found = {}
    for target in rule.targets(model):
        if updated is None or id(target.variable) in updated:
            value = values[id(target.lam)]
            decay = _decay_of(target, value, rate, peak, forms)
            strength = _strength(target, value, optimizer, peak) if is_known else Strength()
            found[id(target.variable)] = replace(
                decay, taken=strength.taken, load=strength.load, is_known=is_known
            )
    return found


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
    target: Target, values: _Values, rate: float | None, peak: float | None, forms: list[str]
) -> CallbackDecay:
    if target.rule.coupling == "independent":
        counts_for = None if peak is None else 1 / peak
    elif target.corrected:
        forms = ["corrected", *forms]
        counts_for = None if peak is None or rate is None else rate / peak
    else:
        counts_for = 1.0
    return CallbackDecay(
        lam=target.scale * values.now,
        coupling=target.rule.coupling,
        counts_for=counts_for,
        schedule=_schedule(values, target.scale),
        form=", ".join(forms),
    )


def _strength(target: Target, values: _Values, optimizer: Any, peak: float | None) -> Strength:
    """What the decay does where lam and the learning rate are largest; `stable` cannot be known."""
    if optimizer is None or target.rule.stable:
        return Strength()
    member = own_decay.member_of(optimizer, target.variable)
    lam = target.scale * values.largest
    if peak is not None and target.rule.coupling == "independent":
        lam /= peak
    elif peak is not None and target.corrected and member is not None:
        lam *= peak_or_current(member) / peak
    return strength_of(member, lam, coupled=target.rule.coupling == "coupled")


def _schedule(values: _Values, scale: float) -> str | None:
    """What tells one schedule of lam from another, whatever step it has come to."""
    if values.config is not None:
        return f"{scale:g} {values.config}"
    return " ".join(f"{scale * value:.6g}" for value in values.probed) or None


def _refused(callback: Any, error: Exception) -> Finding:
    return Finding(
        "error",
        "callback-refused",
        f"`fit` will refuse {_validation.shown(callback)}: {error}",
        "Correct the callback; the report leaves its decay out.",
    )
