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


MOST = 30  # kinds of runs that a sweep looks at; to build a model takes a fraction of a second


def rehearsed(config: Config, known: Rehearsed | None = None) -> Rehearsed:
    """Loads the data of a run and builds its model.

    Args:
        config: Of the run.
        known: Of another run with the same data.

    Raises:
        ConfigError: they do not fit each other or the config.
    """
    from l2keras_experiments.training import trial  # with Keras

    return trial.rehearse(config, known.data if known else None)


def check(configs: Sequence[Config]) -> None:
    """Raises ConfigError for the first mistake among runs of a sweep, of which none has begun.

    Of runs that differ in lambda, rate, seed or the length of training only, one is looked at.
    What is no mistake, such as too little memory, is for the runs to report.

    Raises:
        ConfigError, TargetError: of the first run that has one.
    """
    kinds: dict[Hashable, Config] = {}
    for config in configs:
        kinds.setdefault(_kind(config), config)
    known: tuple[Config, Rehearsed] | None = None
    for config in list(kinds.values())[:MOST]:
        device.set_up(config)
        same = known is not None and _data(known[0]) == _data(config)
        try:
            known = config, rehearsed(config, known[1] if known and same else None)
        except (ConfigError, TargetError) as error:
            if not _lacks_memory(error.__cause__):
                raise
        except Exception:
            continue


def _lacks_memory(error: BaseException | None) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"})


def _kind(config: Config) -> Hashable:
    training = config.training
    optimizer = replace(config.optimizer, learning_rate=0.0)
    regularization = replace(config.regularization, lam=0.0)
    stopping = training.selection, training.early_stopping
    parts = training.loss, training.metrics, training.callbacks, training.class_weight, stopping
    return repr((config.data, config.model, optimizer, regularization, parts))


def _data(config: Config) -> Hashable:
    return repr((config.data, config.seed, config.training.dtype))
