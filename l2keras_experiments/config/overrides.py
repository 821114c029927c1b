"""What was typed, checked word by word before Hydra composes; names the nearest key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import NoneType
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString, ValueType

from l2keras_experiments.config import composition, launchers, messages, schema, typed_values
from l2keras_experiments.config.composition import Found
from l2keras_experiments.config.schema import ConfigError

LONGEST = 20_000  # characters of an override; Hydra's parser needs seconds for more
MOST_RUNS = 10_000  # of a sweep


def check_overrides(
    words: Sequence[str], config: type[schema.Config], found: Found | None = None
) -> list[Override]:
    """Parses overrides of a command with this config.

    Raises:
        ConfigError: a key, group, option or value that cannot be, naming the nearest.
    """
    found = found or composition.default_found()
    overrides = [_parsed(word) for word in words]
    for override in overrides:
        _check_key(override, config, found)
    _check_size(overrides, found)
    return overrides


def _parsed(word: str) -> Override:
    try:
        if len(word) > LONGEST:
            raise ValueError(f"{len(word)} characters are more than {LONGEST}")
        [override] = OverridesParser.create().parse_overrides([word])
    except Exception as error:  # of Hydra, of its grammar, of int()
        lines = str(error).splitlines()
        # After the first line Hydra says why, unless it draws an arrow or names its page.
        why = next((s for s in lines[1:] if s.strip(" ^") and "://" not in s), lines[0])
        raise ConfigError(
            f"An override must read key=value. Received: {word} ({why.strip('.')}). "
            + (
                "Keys of a mapping stand without quotes: 'key={*/head/*:0.1,*:1}'."
                if "={" in word
                else "Quote what has special characters, such as 'key=\"a b\"'."
            )
        ) from None
    return override


def _check_key(override: Override, config: type[schema.Config], found: Found) -> None:
    key, line = override.key_or_group, override.input_line
    if override.is_delete():
        raise ConfigError(
            f"Keys and groups cannot be taken out. Received: {line}. Choose another option."
        )
    if key.startswith(("hydra/", "hydra.")) or key == "hydra":
        _check_hydra_key(override, found)
    elif key in (valid := [name for name, _, _ in schema.keys(config)]) and not override.is_add():
        typed_values.check_values(override, config)
    elif "." in key and key.partition(".")[0] in schema.open_groups(config):
        if override.is_sweep_override():
            typed_values.swept(override)  # the target decides what it takes
    elif options := ("." not in key and found.options(key)):
        _check_option(override, options)
    else:
        raise ConfigError(messages.unknown("key", line, key, [*found.groups(), *valid]))


def _check_hydra_key(override: Override, found: Found) -> None:
    key = override.key_or_group
    if override.is_sweep_override():
        raise ConfigError(
            "Hydra's own keys have one value for all runs. "
            f"Received: {override.input_line}. For a list write [a,b]."
        )
    if key.startswith("hydra/"):
        options = [name for name in found.options(key) if not name.endswith("_plugin")]
        if not options:
            raise ConfigError(f"There is no such group. Received: {override.input_line}.")
        _check_option(override, options)
        if key == "hydra/launcher":
            launchers.check_installed(str(override.value()))


def _check_option(override: Override, options: Sequence[str]) -> None:
    if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        values: list[Any] = _matching(override, options)
    elif override.is_sweep_override():
        values = typed_values.swept(override)
    else:
        values = [override.value()]
    if not values:
        shown = ", ".join(options)
        raise ConfigError(f"No option matches. Received: {override.input_line}. Valid: {shown}.")
    for value in values:
        value = value.text if isinstance(value, QuotedString) else value
        if not isinstance(value, str):
            _check_is_text(value, override, options)
        if str(value) not in options and "/" not in str(value):  # there Hydra looks
            raise ConfigError(messages.unknown("option", override.input_line, str(value), options))


def _check_is_text(value: Any, override: Override, options: Sequence[str]) -> None:
    """Raises ConfigError for a value that is no text, but null or as an option's name reads."""
    key = override.key_or_group
    alike = next((option for option in options if repr(_read(option)) == repr(value)), None)
    if alike is not None:
        kinds = {bool: "true or false", int: "a number", float: "a number", NoneType: "null"}
        kind = kinds.get(type(value), type(value).__name__)
        raise ConfigError(
            f"The name of an option must read as a text. Received: {override.input_line}, which "
            f"reads as {kind}. Rename {alike}.yaml, such as to {key}_{alike}.yaml."
        )
    if value is None:
        raise ConfigError(
            f"A group must have the name of an option. Received: {override.input_line}. "
            f"Leave it out, or choose among: {', '.join(options)}."
        )


def _read(option: str) -> Any:
    """What Hydra reads where the name of an option is typed."""
    try:
        return _parsed(f"key={option}").value()
    except ConfigError:
        return option


def _matching(override: Override, options: Sequence[str]) -> list[str]:
    glob: Any = override._value
    return list(glob.filter(list(options)))


def _check_size(overrides: Sequence[Override], found: Found) -> None:
    """Raises ConfigError for a product of more runs than a sweep may have."""
    sizes = {  # by key: Hydra takes the last
        override.key_or_group: len(_matching(override, found.options(override.key_or_group)))
        if override.value_type is ValueType.GLOB_CHOICE_SWEEP
        else typed_values.size(override)
        for override in overrides
        if override.is_sweep_override()
    }
    check_number(math.prod(sizes.values()))


def check_number(runs: int) -> None:
    """Raises ConfigError for more runs than a sweep may have."""
    if runs > MOST_RUNS:
        raise ConfigError(
            f"A sweep must have at most {MOST_RUNS} runs. Received: {runs} runs. "
            "Sweep over fewer values, or in several sweeps."
        )
