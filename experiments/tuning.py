"""What a study is, read off its config: checks, its name, the config of each run of it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from experiments.schema import Config, ConfigError, TuneConfig

LAM = "regularization.lam"
RATE = "optimizer.learning_rate"
OBJECTIVE = "val_data_loss"
SQLITE = "sqlite:///"

# What does not change the result of a trial. A study of another name is another study.
CHANGING = ("tune.num_trials", "tune.timeout", "tune.storage", "tune.preset")
_VOLATILE = (*CHANGING, "tracking.uri", "tracking.log_model", "training.progress")


def check_tuning(config: TuneConfig) -> None:
    """Raises ConfigError for a search that cannot be: no lambda, no range, no trials."""
    tune = config.tune
    if config.regularization.name == "none":
        raise ConfigError(
            "Tuning needs a method with a lambda. Received: regularization.name='none'. "
            "Choose another, such as regularization=half_l2."
        )
    for key, limits in {"tune.lam": tune.lam, "tune.learning_rate": tune.learning_rate}.items():
        if limits is not None:
            _check_range(key, limits)
    for key, least in {"num_trials": 1, "num_seeds": 1, "warmup_epochs": 0}.items():
        if getattr(tune, key) < least:
            received = f"tune.{key}={getattr(tune, key)}"
            raise ConfigError(f"`tune.{key}` must be at least {least}. Received: {received}.")
    if tune.timeout is not None and not tune.timeout > 0:
        raise ConfigError(
            f"`tune.timeout` must be positive. Received: tune.timeout={tune.timeout}. "
            "For no limit pass null."
        )
    if tune.storage is not None and "://" not in tune.storage:
        raise ConfigError(
            "`tune.storage` must be the URL of a database. "
            f"Received: tune.storage={tune.storage}. For a file pass {SQLITE}{tune.storage}"
        )


def _check_range(key: str, limits: Sequence[float]) -> None:
    positive = all(math.isfinite(limit) and limit > 0 for limit in limits)
    if not (len(limits) == 2 and positive and limits[0] < limits[1]):
        raise ConfigError(
            f"`{key}` must be [low, high] with 0 < low < high, as its scale is logarithmic. "
            f"Received: {key}={list(limits)}."
        )


def study_name(config: TuneConfig) -> str:
    """What is tuned in words, and a digest of all that changes the result of a trial."""
    ignored = {*_VOLATILE, LAM, *([RATE] if config.tune.learning_rate else [])}
    identity = {key: value for key, value in _flat(asdict(config)) if key not in ignored}
    text = json.dumps(identity, sort_keys=True, default=lambda choice: choice.value)
    return f"{words(config)}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def words(config: Config) -> str:
    """Data, model, method and optimizer, as the name of a file."""
    optimizer = "momentum" if config.optimizer.momentum else config.optimizer.name
    return f"{config.data.name}_{config.model.name}_{config.regularization.name}_{optimizer}"


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def run_config(config: TuneConfig, params: dict[str, float], seed: int) -> Config:
    """The config of one run of a trial, as experiments.train would have it."""
    run = Config(**{item.name: getattr(config, item.name) for item in fields(Config)})
    return replace(
        run,
        seed=seed,
        regularization=replace(run.regularization, lam=params[LAM]),
        optimizer=replace(
            run.optimizer, learning_rate=params.get(RATE, run.optimizer.learning_rate)
        ),
    )
