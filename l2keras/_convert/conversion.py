"""convert: a coefficient of weight decay from any system to any other."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from l2keras import _calls, _validation
from l2keras._convert import equivalence
from l2keras._convert.system import System
from l2keras._convert.systems import SYSTEMS

_BY_NAME = {system.name: system for system in SYSTEMS}


class ExactConversion(float):
    """A converted coefficient that can be used wherever a float can."""

    __slots__ = ("_why",)
    _why: str
    exact: ClassVar[Literal[True]] = True

    def __new__(cls, value: float, why: str) -> ExactConversion:
        self = super().__new__(cls, value)
        self._why = why
        return self

    @property
    def value(self) -> float:
        """The coefficient as a plain Python float."""
        return float(self)

    @property
    def why(self) -> str:
        """The rule, and what would break equality."""
        return self._why

    def __getnewargs__(self) -> tuple[float, str]:  # type: ignore[override]  # float has (float,)
        return self.value, self._why

    def __str__(self) -> str:
        return repr(self.value)

    def __repr__(self) -> str:
        return f"Conversion(value={self.value!r}, exact=True, why={self.why!r})"


@dataclass(frozen=True, slots=True)
class InexactConversion:
    """A converted coefficient that does not make the two systems equal: deliberately no float."""

    value: float
    why: str
    exact: ClassVar[Literal[False]] = False

    def __float__(self) -> float:
        raise TypeError(
            _validation.error(
                "A conversion must be exact to be used as a float.",
                repr(self),
                "Take its `.value` if that is what you want.",
            )
        )

    def __repr__(self) -> str:
        return f"Conversion(value={self.value!r}, exact=False, why={self.why!r})"


Conversion: TypeAlias = ExactConversion | InexactConversion


@_calls.explained("convert")
def convert(
    value: float,
    source: str,
    target: str,
    *,
    learning_rate: Any = None,
    batch_size: int | None = None,
    num_samples: int | None = None,
    optimizer: str | None = None,
    num_steps: int | None = None,
) -> Conversion:
    """Converts a coefficient of weight decay from one system to another.

    Convention: what is kept is `lam`, the coefficient of `W` in the gradient: every system has
    a formula for it, which `l2keras.conventions()` lists with the update rule and its source.
    `keras.L2` has lam = 2*c, so `torch.optim.SGD(weight_decay=1e-4)` is `L2(5e-5)`.

    Args:
        value: The coefficient in `source`: a finite, non-negative float. For
            "sklearn.LogisticRegression" it is C, positive, or infinite for no penalty.
        source: Name of the system that it comes from, such as "torch.SGD".
        target: Name of the system that it goes to, such as "keras.L2".
        learning_rate: The constant learning rate, a float, for systems whose rule has none
            ("tfa.SGDW"); the one that the optimizer was constructed with for
            "mosaicml.DecoupledAdamW". A schedule (a callable, an object, a sequence) says that
            it is not constant.
        batch_size: Samples in a batch, for "sklearn.MLPClassifier".
        num_samples: Samples in the training set, for losses that are a sum over them.
        optimizer: "sgd" declares plain SGD, the one under which coupled and decoupled decay
            are equal. Else "momentum", "nesterov", "adam", "rmsprop", "lion", ...
        num_steps: Updates in the whole training, for "keras_adamw".

    Returns:
        A result with `.value` (float), `.exact` (bool) and `.why` (str). Where exact it is a
        float, to be passed on as it is; where not, float() of it raises. Exact means: from the
        same weights on the same batches the weights stay equal, unless something that `.why`
        names comes in; for the objectives of scikit-learn and XGBoost, that the minimum is equal.

    Raises:
        UndefinedConversionError: No coefficient of `target` means the same (coupled and
            decoupled decay under an adaptive optimizer, a schedule where the rule has none), or
            an argument is missing. Says why, and what would be defined.
        TypeError, ValueError: An argument is not what it should be.

    Source: shared equations in arXiv 1711.05101; for each system the file that
    `l2keras.conventions()` names.

    Example:

    >>> from l2keras import HalfL2, convert
    >>> result = convert(1e-4, "torch.SGD", "keras.L2")
    >>> result.value, result.exact
    (5e-05, True)
    >>> HalfL2(convert(2.0, "sklearn.Ridge", "half_l2", num_samples=100))
    HalfL2(lam=0.04)
    >>> convert(1e-5, "tfa.AdamW", "keras.weight_decay", learning_rate=0.01).value
    0.001
    >>> convert(1e-4, "torch.SGD", "keras.weight_decay", optimizer="momentum").exact
    False
    """
    start, end = _find(source, "source"), _find(target, "target")
    counts = {"batch_size": batch_size, "num_samples": num_samples, "num_steps": num_steps}
    setting = equivalence.make_setting(learning_rate, optimizer, counts)
    c = _check_value(value, start)
    if c == (math.inf if start.scale.reciprocal else 0.0):
        nothing = math.inf if end.scale.reciprocal else 0.0
        return ExactConversion(nothing, "No decay is no decay in every system.")
    remarks = list(equivalence.remarks(start, end, setting))
    why = " ".join(remark.text for remark in remarks)
    result = _converted(c, start, end, setting)
    if any(remark.breaks for remark in remarks):
        return InexactConversion(result, why)
    return ExactConversion(result, why)


def _find(name: object, argument: str) -> System:
    """The system called `name`, or a ValueError with the nearest names."""
    if isinstance(name, str) and name in _BY_NAME:
        return _BY_NAME[name]
    lowered = {known.lower(): known for known in _BY_NAME}
    text = name.lower() if isinstance(name, str) else ""
    near = _validation.nearest(text, lowered, count=1, cutoff=_validation.LIKE)
    hint = f'Did you mean "{lowered[near[0]]}"? ' if near else ""
    raise ValueError(
        _validation.error(
            f"`{argument}` must be the name of a system.",
            f"{argument}={_validation.shown(name)}",
            f"{hint}l2keras.conventions() lists them.",
        )
    )


def _converted(c: float, start: System, end: System, setting: equivalence.Setting) -> float:
    above, below = equivalence.divisor(start, setting), equivalence.divisor(end, setting)
    if (start.scale, start.uses_rate) == (end.scale, end.uses_rate):
        return c
    strength = equivalence.carry_over(start.scale.strength(c, above), start, end, setting)
    _check_range(strength, c, "decay between the two systems")
    result = end.scale.coefficient(strength, below)
    return _check_range(result, c, f"coefficient of `{end.name}`")


def _check_value(value: Any, system: System) -> float:
    if not system.scale.reciprocal:
        return _validation.check_lam(value, "value", "For no decay pass 0.")
    remedy = "Pass C of LogisticRegression, inf for no penalty."
    if isinstance(value, float) and value == math.inf:
        return math.inf
    return _validation.check_positive(value, "value", remedy)


def _check_range(result: float, value: float, what: str) -> float:
    """`result` if it is a normal float: no overflow, no underflow."""
    if sys.float_info.min <= result <= sys.float_info.max:
        return result
    raise ValueError(
        _validation.error(
            f"The {what} must be a float from 2.3e-308 to 1.7e308.",
            f"value={_validation.shown(value)}, which makes it {result!r}",
            "Pass a value nearer to 1.",
        )
    )
