"""Which schedule a config means, of the learning rate or of lambda. Light: it imports no Keras."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from l2keras_experiments.config import targets
from l2keras_experiments.config.schema import ConfigError

NAMES = ("constant", "cosine", "linear", "exponential", "piecewise", "one_cycle")
MODULE = "l2keras_experiments.training.schedules"
# Passed to a schedule where it takes them; the last two are what Keras' own schedules call them.
SUPPLIED = ("learning_rate", "num_steps", "initial_learning_rate", "decay_steps")


def node_of(key: str, schedule: Any) -> dict[str, Any]:
    """A schedule as a target and its arguments.

    Args:
        key: Of the schedule in the config.
        schedule: One of NAMES; a mapping with `name` and its arguments; or one with a `_target_`.

    Raises:
        ConfigError: a name that no schedule has.
    """
    if isinstance(schedule, Mapping) and targets.TARGET in schedule:
        return dict(schedule)
    arguments = dict(schedule) if isinstance(schedule, Mapping) else {"name": schedule}
    name = arguments.pop("name", None)
    if name not in NAMES:
        near = difflib.get_close_matches(str(name), NAMES, n=1, cutoff=0.5)
        raise ConfigError(
            f"`{key}` must be one of {', '.join(NAMES)}, or have a `_target_`. "
            f"Received: {key}={name}.{f' Did you mean {near[0]}?' if near else ''}"
        )
    return {targets.TARGET: f"{MODULE}.{name}", **arguments}


def check(key: str, schedule: Any) -> None:
    """Raises ConfigError for a schedule that is not there, or does not take its arguments."""
    targets.check(key, node_of(key, schedule), SUPPLIED)


def make(key: str, schedule: Any, peak: float, num_steps: int) -> Any:
    """A float, or a Keras schedule of `num_steps` steps whose highest value is `peak`.

    What the config gives of these stays.
    """
    node = node_of(key, schedule)
    values = dict(zip(SUPPLIED, (peak, num_steps, peak, num_steps), strict=True))
    supplied: dict[str, Any] = {name: value for name, value in values.items() if name not in node}
    return targets.instantiate(key, node, **supplied)
