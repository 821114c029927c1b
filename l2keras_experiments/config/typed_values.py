"""What was typed for a key: values of its type, and for a sweep at least one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any, get_args

from hydra.core.override_parser.types import (
    ChoiceSweep,
    Override,
    RangeSweep,
    Sweep,
    ValueType,
)
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from l2keras_experiments.config import messages, schema
from l2keras_experiments.config.schema import ConfigError

MOST_VALUES = 10_000  # of one key in a sweep
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def check_values(override: Override, config: type[schema.Config]) -> None:
    """Raises ConfigError where a value is not of the key's type, or a sweep has no values."""
    key = override.key_or_group
    empty = OmegaConf.structured(config)
    values = swept(override) if override.is_sweep_override() else [override.value()]
    for value in values:
        try:
            OmegaConf.update(empty, key, value)
        except (OmegaConfBaseException, ValueError):  # of more digits than int() takes
            raise mismatch(key, value, str(override.input_line), config) from None
        numbers = value if isinstance(value, list) else [value]
        if all(isinstance(number, int | float) for number in numbers):  # no interpolation
            schema.check_number(key, value, str(override.input_line))


def mismatch(key: str, value: Any, received: str, config: type[schema.Config]) -> ConfigError:
    """The answer to a value of another type.

    Args:
        key: Dotted.
        value: As parsed.
        received: As typed or composed.
        config: The schema.
    """
    word = _word({name: kind for name, _, kind in schema.keys(config)}[key])
    remedy = messages.example(key, word)
    if key == "regularization.lam" and isinstance(value, Mapping):
        remedy = (
            "Factors of lambda by pattern are regularization.scale, in a config file: "
            "scale: {'*head/kernel': 0.1, '*': 1}."
        )
    return ConfigError(f"`{key}` must be {word}. Received: {received}. {remedy}")


def swept(override: Override) -> list[Any]:
    """The values of a sweep over a key.

    Raises:
        ConfigError: they are not named one by one, none, or too many.
    """
    if override.value_type in (ValueType.INTERVAL_SWEEP, ValueType.GLOB_CHOICE_SWEEP):
        raise ConfigError(
            "A sweep over a key must name its values: key=a,b,c or key=range(start,stop,step). "
            f"Received: {override.input_line}. Write the values."
        )
    number = size(override)
    if number == 0:
        raise ConfigError(
            f"A sweep must have at least one value. Received: {override.input_line}. "
            "range(start,stop,step) ends before stop."
        )
    if number > MOST_VALUES:
        raise ConfigError(
            f"A sweep must have at most {MOST_VALUES} values of a key. "
            f"Received: {override.input_line}, which are {number}. Write fewer."
        )
    values = list(override.sweep_iterator())
    if any(isinstance(value, Sweep) for value in values):
        raise ConfigError(
            "The values of a sweep must be no sweeps themselves. "
            f"Received: {override.input_line}. Write them one by one: key=a,b,c."
        )
    return values


def size(override: Override) -> int:
    """The number of values of a sweep, without making them.

    Raises:
        ConfigError: it has no end.
    """
    given = override.value()
    if isinstance(given, ChoiceSweep):
        return len(given.list)
    if not isinstance(given, RangeSweep):
        return 0
    bounds = (given.start, given.stop, given.step)
    start, stop, step = (Decimal(0 if bound is None else bound) for bound in bounds)
    if not (start.is_finite() and stop.is_finite() and step.is_finite() and step):
        raise ConfigError(
            "range(start,stop,step) must have finite bounds and a step that is not 0. "
            f"Received: {override.input_line}. Write key=range(0,10,2)."
        )
    return max(0, math.ceil((stop - start) / step))


def _word(kind: Any) -> str:
    """What a type is called by people."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(item.value for item in kind)
    if kind in _WORDS:
        return _WORDS[kind]
    parts = get_args(kind)
    if NoneType in parts:
        return " or ".join([*(_word(part) for part in parts if part is not NoneType), "null"])
    described = [_word(part) for part in parts if part is not Any]
    return "a list, such as [a,b]" + (f", each {' or '.join(described)}" if described else "")
