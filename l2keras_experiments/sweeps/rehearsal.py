"""Mistakes that only the data or the model shows, found before a run is recorded."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from l2keras_experiments.config.schema import Config, ConfigError
from l2keras_experiments.config.targets import TargetError
from l2keras_experiments.runtime import device

if TYPE_CHECKING:
    from l2keras_experiments.training.trial import Rehearsed


def rehearsed(config: Config) -> Rehearsed:
    """Loads the data of a run and builds its model.

    Raises:
        ConfigError: they do not fit each other or the config.
    """
    from l2keras_experiments.training import trial  # with Keras

    return trial.rehearse(config)


def check(configs: Sequence[Config]) -> None:
    """Raises ConfigError for the first mistake among runs of a sweep, of which none has begun.

    Of runs that differ in numbers only, one is looked at. What is no mistake, such as too little
    memory, is for the runs to report.

    Raises:
        ConfigError, TargetError: of the first run that has one.
    """
    kinds: dict[Hashable, Config] = {}
    for config in configs:
        kinds.setdefault(_kind(config), config)
    for config in kinds.values():
        device.set_up(config)
        try:
            rehearsed(config)
        except (ConfigError, TargetError) as error:
            if not _lacks_memory(error.__cause__):
                raise
        except Exception:
            continue


def _lacks_memory(error: BaseException | None) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"})


def _kind(config: Config) -> Hashable:
    data, training = config.data, config.training
    named = (data, config.model, config.optimizer)
    return (
        tuple((one.name, one.target) for one in named),
        repr((data.task, training.loss, training.metrics, training.selection)),
        repr(replace(config.regularization, lam=0.0)),
    )
