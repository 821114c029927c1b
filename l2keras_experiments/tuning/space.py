"""What a study is, read off its config: checks, its name, the config of each run of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from l2keras_experiments.config import schema
from l2keras_experiments.config.schema import (
    Config,
    ConfigError,
    TuneConfig,
    optimizer_name,
)
from l2keras_experiments.runtime import device
from l2keras_experiments.sweeps.identity import config_hash
from l2keras_experiments.tracking import database
from l2keras_experiments.training.selection import higher_is_better

LAM = "regularization.lam"
RATE = "optimizer.learning_rate"
SQLITE = "sqlite:///"

DATABASES = ("sqlite", "postgresql", "mysql", "mariadb", "mssql", "oracle")  # SQLAlchemy's

# What a launch may change and still go on with the same study.
CHANGING = ("tune.num_trials", "tune.timeout", "tune.storage", "tune.preset")


@dataclass(frozen=True)
class Objective:
    """The metric that a search improves, and whether it is to grow."""

    metric: str = "val_data_loss"
    higher_is_better: bool = False

    @property
    def test_metric(self) -> str:
        """What is measured on the test examples, and selects nothing."""
        return self.metric.replace("val_", "test_", 1)

    @property
    def worst(self) -> float:
        return -math.inf if self.higher_is_better else math.inf

    def cost(self, value: float) -> float:
        """The value, negative where higher is better."""
        return -value if self.higher_is_better else value


DATA_LOSS = Objective()


def objective(config: TuneConfig) -> Objective:
    """What `training.selection` names; to ask a metric whether it is to grow loads Keras."""
    metric = config.training.selection
    if metric is None:
        return DATA_LOSS

    device.set_up(config)
    return Objective(metric, higher_is_better(config.training, metric))


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
    for key, least in {
        "num_trials": 1,
        "num_seeds": 1,
        "warmup_epochs": 0,
        "batch_size": 1,
    }.items():
        if getattr(tune, key) < least:
            received = f"tune.{key}={getattr(tune, key)}"
            raise ConfigError(
                f"`tune.{key}` must be at least {least}. Received: {received}. "
                f"Write tune.{key}={least} or more."
            )
    if tune.timeout is not None and not tune.timeout > 0:
        raise ConfigError(
            f"`tune.timeout` must be positive. Received: tune.timeout={tune.timeout}. "
            "For no limit pass null."
        )
    if tune.storage is not None:
        _check_storage(tune.storage)


def _check_storage(url: str) -> None:
    kind = url.partition("://")[0].partition("+")[0]
    if "://" not in url or kind not in DATABASES:
        raise ConfigError(
            f"`tune.storage` must be the URL of a database: {', '.join(DATABASES)}. "
            f"Received: tune.storage={url}. For a file pass {SQLITE}{url}."
        )
    if kind == "sqlite":
        database.check_file(url, "tune.storage")


def _check_range(key: str, limits: Sequence[float]) -> None:
    valid = all(0 < limit <= schema.LARGEST_FLOAT for limit in limits)
    if not (len(limits) == 2 and valid and limits[0] < limits[1]):
        raise ConfigError(
            f"`{key}` must be [low, high] with 0 < low < high, finite in float32. "
            f"Received: {key}={list(limits)}. Write {key}=[0.00001,1.0]."
        )


def study_name(config: TuneConfig) -> str:
    """What is tuned in words, and the hash of all that changes the result of a trial.

    A study of another `tracking.study` is another one too.
    """
    searched = (LAM, *([RATE] if config.tune.learning_rate else []))
    told = {k: v for k, v in schema.flat(config).items() if k not in (*CHANGING, *searched)}
    return f"{words(config)}-{config_hash({**told, 'study': config.tracking.study})}"


def words(config: Config) -> str:
    """Data, model, method and optimizer, as the name of a file."""
    parts = (config.data.name, config.model.name, config.regularization.name)
    return "_".join([*parts, optimizer_name(config)])


def rounded(params: Mapping[str, float]) -> dict[str, float]:
    """What is trained of what optuna proposes: four digits, so that what is shown can be typed."""
    return {key: float(f"{value:.4g}") for key, value in params.items()}


def run_config(config: TuneConfig, params: Mapping[str, float], seed: int) -> Config:
    """The config of one run of a trial, as experiments.train would have it."""
    params = rounded(params)
    run = Config(**{item.name: getattr(config, item.name) for item in fields(Config)})
    return replace(
        run,
        seed=seed,
        regularization=replace(run.regularization, lam=params[LAM]),
        optimizer=replace(
            run.optimizer, learning_rate=params.get(RATE, run.optimizer.learning_rate)
        ),
    )
