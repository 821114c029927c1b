"""What was typed for a key: values of its type, and for a sweep at least one of them."""

from __future__ import annotations

from enum import Enum
from types import NoneType
from typing import Any, get_args

from hydra.core.override_parser.types import Override, ValueType
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments import schema
from experiments.schema import ConfigError

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def check_values(override: Override, config: type[schema.Config]) -> None:
    """Raises ConfigError where a value is not of the key's type, or a sweep has no values."""
    key = override.key_or_group
    empty = OmegaConf.structured(config)
    for value in _values(override):
        try:
            OmegaConf.update(empty, key, value)
        except OmegaConfBaseException:
            expected = {name: kind for name, _, kind in schema.keys(config)}[key]
            raise ConfigError(
                f"`{key}` must be {_word(expected)}. Received: {override.input_line}."
            ) from None


def _values(override: Override) -> list[Any]:
    if not override.is_sweep_override():
        return [override.value()]
    if override.value_type in (ValueType.INTERVAL_SWEEP, ValueType.GLOB_CHOICE_SWEEP):
        raise ConfigError(
            "A sweep over a key must name its values: key=a,b,c or key=range(start,stop,step). "
            f"Received: {override.input_line}."
        )
    values = list(override.sweep_iterator())
    if not values:
        raise ConfigError(
            f"A sweep must have at least one value. Received: {override.input_line}. "
            "range(start,stop,step) ends before stop."
        )
    return values


def _word(kind: Any) -> str:
    """What a type is called by people."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(item.value for item in kind)
    if kind in _WORDS:
        return _WORDS[kind]
    parts = get_args(kind)
    if NoneType in parts:
        return " or ".join([*(_word(part) for part in parts if part is not NoneType), "null"])
    return "a list, such as [a,b], each " + " or ".join(_word(part) for part in parts)
