"""The arguments of WeightDecay, checked where they are given: types, and what goes together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule

from l2keras import _validation, masks
from l2keras._decay.rules import Lam

COUPLINGS = ("decoupled", "coupled", "independent")

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
                f"lam={lam!r}",
                'Write lam={"encoder/*": 1e-2, "*": 1e-4}; the first pattern that matches counts.',
            )
        )
    return tuple((glob, _check_one(value)) for glob, value in lam.items())


def _check_one(lam: Any) -> Lam:
    if isinstance(lam, (keras.regularizers.Regularizer, type)):
        raise TypeError(
            _validation.error(
                "`lam` must be a float, a LearningRateSchedule or a callable of the step.",
                f"lam={lam!r}",
                "Pass the coefficient itself: HalfL2(0.1) is WeightDecay(0.1), and "
                "keras.regularizers.L2(0.1) is WeightDecay(0.2).",
            )
        )
    if isinstance(lam, LearningRateSchedule) or callable(lam):
        schedule: Lam = lam
        return schedule
    return _validation.check_lam(lam, remedy="For no decay leave the callback out.")


def check_forms(coupling: str, given: Mapping[str, Any]) -> None:
    """Raises ValueError for forms that do not go together.

    Args:
        coupling: One of `COUPLINGS`.
        given: The arguments `corrected`, `cautious`, `stable`, `toward`, `lazy` and `fused`.
    """
    _validation.check_choice(coupling, "coupling", COUPLINGS)
    for name, values in _SWITCHES.items():
        if not any(given[name] is value for value in values):
            expected = f"`{name}` must be {' or '.join(map(str, values))}."
            raise TypeError(_validation.error(expected, f"{name}={given[name]!r}", "Leave it out."))
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
                    f"{first}={given[first]!r}, {second}={given[second]!r}",
                    "Choose one of them.",
                )
            )
    if not isinstance(given["corrected"], bool):
        masks.check_patterns(given["corrected"], "corrected")


def check_positive(value: Any, name: str, remedy: str) -> float:
    """Returns `value` as a float greater than zero, or says why it is none."""
    number = _validation.check_lam(value, name=name, remedy=remedy)
    if number == 0:
        raise ValueError(
            _validation.error(f"`{name}` must be positive.", f"{name}={value!r}", remedy)
        )
    return number


def check_peak(peak: Any, coupling: str, corrected: Any) -> float | None:
    """`peak_learning_rate`, which independent and corrected decay alone have a use for."""
    if peak is None:
        return None
    if coupling != "independent" and not corrected:
        raise ValueError(
            _validation.error(
                '`peak_learning_rate` belongs to coupling="independent" and to `corrected`.',
                f"peak_learning_rate={peak!r} with coupling={coupling!r}",
                "Leave it out.",
            )
        )
    return check_positive(peak, "peak_learning_rate", "Leave it out.")


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
    changed = [f", {name}={value!r}" for name, value in given.items() if value != _DEFAULTS[name]]
    return "".join(changed)
