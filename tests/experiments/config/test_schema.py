"""The typed configuration and its checks."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from l2keras_experiments.config import schema
from l2keras_experiments.config.schema import (
    CompareConfig,
    Config,
    ConfigError,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    TrackingConfig,
    TrainingConfig,
)


def test_every_key_has_help() -> None:
    """Every key carries one line of help for --help."""
    for key, item, _ in schema.keys(CompareConfig):
        assert item.metadata["help"], key


def test_promised_keys() -> None:
    """The keys that people type exist under the names that were promised."""
    promised = {
        "seed", "device", "backend", "optimizer.learning_rate", "regularization.lam",
        "training.epochs", "training.batch_size", "training.jit", "training.mixed_precision",
        "tracking.uri",
    }  # fmt: skip
    assert promised <= {key for key, _, _ in schema.keys(Config)}


def test_defaults_pass() -> None:
    """The defaults are a possible run."""
    schema.check(Config())
    schema.check(CompareConfig())


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("optimizer", "learning_rate", 0.0),
        ("optimizer", "learning_rate", float("nan")),
        ("training", "epochs", 0),
        ("training", "batch_size", -1),
        ("training", "steps_per_execution", 0),
        ("training", "gradient_accumulation_steps", 0),
        ("regularization", "lam", -0.1),
        ("regularization", "lam", float("inf")),
        ("regularization", "lam", 1e308),  # no float32
        ("optimizer", "learning_rate", 1e39),
    ],
)
def test_impossible_values(group: str, key: str, value: float) -> None:
    """A value that no run could use raises with its key and what came."""
    config = Config()
    setattr(getattr(config, group), key, value)
    with pytest.raises(ConfigError, match=rf"`{group}\.{key}`.*: .*{re.escape(str(value))}"):
        schema.check(config)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_keras_would_refuse(seed: int) -> None:
    """A seed outside of 32 bits raises before anything is loaded."""
    with pytest.raises(ConfigError, match=f"`seed` must be from 0.*Received: seed={seed}"):
        schema.check(Config(seed=seed))


def test_a_study_without_a_name() -> None:
    """An empty study raises."""
    config = Config()
    config.tracking.study = " "
    with pytest.raises(ConfigError, match=r"`tracking\.study` must be a name"):
        schema.check(config)


def test_mixed_precision_needs_float32() -> None:
    """float64 weights under mixed precision are refused."""
    config = Config()
    config.training.dtype = schema.Dtype.float64
    config.training.mixed_precision = schema.MixedPrecision.float16
    with pytest.raises(ConfigError, match=r"mixed_precision.*float64"):
        schema.check(config)


def test_negative_lambda_in_a_grid() -> None:
    """A negative lambda in the grid of a comparison raises."""
    config = CompareConfig()
    config.compare.lams = [0.1, -0.1]
    with pytest.raises(ConfigError, match=r"`compare\.lams`"):
        schema.check(config)


def test_a_run_is_named_by_what_a_sweep_varies() -> None:
    """The depth, and the optimizer by its name: momentum and learning rate go with that."""
    adam = OptimizerConfig(target="keras.optimizers.Adam", learning_rate=0.001)
    sgd = OptimizerConfig(target="keras.optimizers.SGD", arguments={"momentum": 0.9})
    configs = [
        Config(seed=seed, optimizer=optimizer, model=ModelConfig({"depth": depth}, "own.build"))
        for seed in (0, 1)
        for optimizer in (adam, sgd)
        for depth in (1, 2)
    ]
    varied = schema.varied_keys(configs)
    assert varied == ["model.depth", "optimizer._target_"]
    tracking = TrackingConfig(varied=varied)
    labels = [schema.run_label(replace(config, tracking=tracking)) for config in configs]
    assert labels[0] == "none lam=0 eta=0.001 depth=1 optimizer=adam seed=0"
    assert len(set(labels)) == 8
    name = schema.run_name(replace(configs[0], tracking=tracking))
    assert name == "0 s0 depth=1 optimizer=adam none eta=0.001"


def test_a_long_value_is_short_in_a_name() -> None:
    """Of a path the file, of a target its name, of other texts the last 24 letters."""
    training = TrainingConfig(loss={"_target_": "own.Loss", "scale": 2})
    data = DataConfig({"path": "/far/away/wine.csv", "words": "a" * 30}, "own.load")
    tracking = TrackingConfig(varied=["data.path", "data.words", "training.loss"])
    config = Config(data=data, training=training, tracking=tracking)
    shown = "path=wine.csv words=" + "a" * 24 + " loss=own.Loss"
    assert schema.run_label(config) == f"none lam=0 eta=0.2 {shown} seed=0"
