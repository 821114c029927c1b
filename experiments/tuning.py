"""What a study is, read off its config: checks, its name, the config of each run of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from experiments import database, schema
from experiments.identity import config_hash
from experiments.schema import Config, ConfigError, TuneConfig, keys, value

LAM = "regularization.lam"
RATE = "optimizer.learning_rate"
OBJECTIVE = "val_data_loss"
SQLITE = "sqlite:///"

DATABASES = ("sqlite", "postgresql", "mysql", "mariadb", "mssql", "oracle")  # SQLAlchemy's

# What a launch may change and still go on with the same study.
CHANGING = ("tune.num_trials", "tune.timeout", "tune.storage", "tune.preset")


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
            f"Received: {key}={list(limits)}."
        )


def study_name(config: TuneConfig) -> str:
    """What is tuned in words, and the hash of all that changes the result of a trial.

    A study of another `tracking.study` is another one too.
    """
    searched = (LAM, *([RATE] if config.tune.learning_rate else []))
    flat = {key: value(config, key) for key, _, _ in keys(TuneConfig)}
    told = {key: flat[key] for key in flat if key not in (*CHANGING, *searched)}
    return f"{words(config)}-{config_hash({**told, 'study': config.tracking.study})}"


def words(config: Config) -> str:
    """Data, model, method and optimizer, as the name of a file."""
    optimizer = "momentum" if config.optimizer.momentum else config.optimizer.name
    return f"{config.data.name}_{config.model.name}_{config.regularization.name}_{optimizer}"


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
