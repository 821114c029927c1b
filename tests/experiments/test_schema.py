"""The typed configuration and its checks."""

from __future__ import annotations

import re

import pytest

from experiments import schema
from experiments.schema import CompareConfig, Config, ConfigError


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
        ("model", "width", 0),
        ("model", "dropout", 1.5),
        ("model", "depth", -2),
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
