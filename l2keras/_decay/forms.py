"""The arguments of WeightDecay, checked where they are given: types, and what goes together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule

from l2keras import _validation, masks
from l2keras._decay.anchors import check_toward
from l2keras._decay.rules import Lam, lam_at

COUPLINGS = ("decoupled", "coupled", "independent")

_VARIABLE = "Pass a schedule or a callable of the step; or assign callback.lam between epochs."
_PEAK = "Pass the largest learning rate of the training, a float."
_SWITCHES: dict[str, tuple[bool | None, ...]] = {
    "cautious": (True, False),
    "stable": (True, False),
    "lazy": (True, False),
    "fused": (True, False, None),
}

# What each form goes together with, and why not with the rest.
_COUPLINGS_OF = {
    "corrected": ("decoupled",),
    "stable": ("decoupled",),
    "cautious": ("decoupled", "independent"),
    "lazy": ("decoupled", "independent"),
}
_EXCLUSIVE = (
    ("corrected", "stable"),
    ("lazy", "cautious"),
    ("lazy", "stable"),
    ("lazy", "toward"),
    ("lazy", "fused"),
)


def check_lams(lam: Any) -> tuple[tuple[str, Lam], ...]:
    """(glob, lam) pairs, from a lam or a mapping of globs to lams."""
    if not isinstance(lam, Mapping):
        return (("*", _check_one(lam)),)
    if not lam or not all(isinstance(glob, str) for glob in lam):
        raise TypeError(
            _validation.error(
                "A mapping `lam` must have glob patterns on variable.path as its keys.",
                f"lam={_validation.shown(lam)}",
                'Write lam={"encoder/*": 1e-2, "*": 1e-4}; the first pattern that matches counts.',
            )
        )
    return tuple((glob, _check_one(value)) for glob, value in lam.items())


def _check_one(lam: Any) -> Lam:
    if isinstance(lam, (keras.regularizers.Regularizer, keras.Layer, type)):
        remedy = (
            "Pass the coefficient itself: HalfL2(0.1) is WeightDecay(0.1), and "
            "keras.regularizers.L2(0.1) is WeightDecay(0.2)."
        )
        expected = "`lam` must be a float, a LearningRateSchedule or a callable of the step."
        raise TypeError(_validation.error(expected, f"lam={_validation.shown(lam)}", remedy))
    if isinstance(lam, LearningRateSchedule) or callable(lam):
        schedule: Lam = lam
        return schedule
    _validation.check_constant(lam, "lam", _VARIABLE)
    return _validation.check_lam(lam, remedy="For no decay leave the callback out.")


def check_forms(coupling: str, given: Mapping[str, Any]) -> None:
    """Raises ValueError for forms that do not go together.

    Args:
        coupling: One of `COUPLINGS`.
        given: The arguments `corrected`, `cautious`, `stable`, `toward`, `lazy` and `fused`.
    """
    _validation.check_choice(coupling, "coupling", COUPLINGS)
    for name, values in _SWITCHES.items():
        _validation.check_one_of(given[name], name, values)
    if not isinstance(given["corrected"], bool):
        masks.check_patterns(given["corrected"], "corrected")
    if given["toward"] is not None:
        check_toward(given["toward"])
    for name, couplings in _COUPLINGS_OF.items():
        if given[name] and coupling not in couplings:
            allowed = " or ".join(f'"{one}"' for one in couplings)
            raise ValueError(
                _validation.error(
                    f"`{name}` changes the shrinking of W, so it needs coupling={allowed}.",
                    f"coupling={coupling!r}",
                    "Change one of them.",
                )
            )
    for first, second in _EXCLUSIVE:
        if given[first] and given[second]:
            raise ValueError(
                _validation.error(
                    f"`{first}` and `{second}` do not go together.",
                    ", ".join(f"{one}={_validation.shown(given[one])}" for one in (first, second)),
                    "Choose one of them.",
                )
            )


def check_value(lam: Lam, step: Any) -> None:
    """Raises unless `lam` has a value at `step`, the count of updates, and it is a coefficient."""
    try:
        value = lam_at(lam, step)
    except Exception as problem:  # whatever a callable raises
        raise ValueError(
            _validation.error(
                "`lam` must be a callable of the step, a float tensor of rank 0.",
                f"lam={_validation.shown(lam)}, which raised {_validation.brief(problem)}",
                "Write lam=lambda step: 1e-4 * 0.5 ** (step / 1000).",
            )
        ) from problem
    _validation.check_lam(value, remedy="A callable of the step must return one.")


def check_model(model: Any, name: str) -> None:
    """Raises TypeError unless `model` is a Keras model; `name` is what takes it."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            _validation.error(
                f"`{name}` needs a Keras model.",
                f"model={_validation.shown(model)} of type {type(model).__name__}",
                "Pass a keras.Model that is built.",
            )
        )


def check_peak(peak: Any, coupling: str, corrected: Any) -> float | None:
    """`peak_learning_rate`, which independent and corrected decay alone have a use for."""
    if peak is None:
        return None
    if coupling != "independent" and not corrected:
        raise ValueError(
            _validation.error(
                '`peak_learning_rate` belongs to coupling="independent" and to `corrected`.',
                f"peak_learning_rate={_validation.shown(peak)} with coupling={coupling!r}",
                "Leave it out.",
            )
        )
    _validation.check_constant(peak, "peak_learning_rate", _PEAK)
    return _validation.check_positive(peak, "peak_learning_rate", "Leave it out.")


# The arguments that a repr leaves out where they are as here.
_DEFAULTS = {
    "include": None,
    "exclude": None,
    "peak_learning_rate": None,
    "corrected": False,
    "cautious": False,
    "stable": False,
    "toward": None,
    "layer_decay": 1.0,
    "lazy": False,
    "fused": None,
    "optimizer": None,
}

ARGUMENTS = ("lam", "coupling", *_DEFAULTS)


def described(callback: Any) -> str:
    """The arguments that are not at their defaults, each after a comma."""
    given = {name: getattr(callback, name) for name in _DEFAULTS}
    return "".join(
        f", {name}={value!r}" for name, value in given.items() if not _is_default(name, value)
    )


def _is_default(name: str, value: Any) -> bool:
    """Compares plain values only: an array that was assigned may have no truth value."""
    default = _DEFAULTS[name]
    return value is default or (type(value) is type(default) and bool(value == default))
