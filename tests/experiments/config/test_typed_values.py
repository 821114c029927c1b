"""Values of the wrong type, and sweeps over nothing, are answered in one line."""

from __future__ import annotations

import pytest

from l2keras_experiments.config import overrides
from l2keras_experiments.config.schema import Config, ConfigError, TuneConfig


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("regularization.lam=0.1,abc", r"must be a number\..*such as regularization\.lam=0\.01"),
        ("regularization.lam=", "must be a number"),
        ("training.epochs=1.5,2", "must be a whole number"),
        ("seed=choice(1,1e10)", "must be a whole number"),
        ("training.epochs=abc", r"must be a whole number\..*such as training\.epochs=10"),
        ("training.jit=maybe", "must be true or false.*Write training.jit=true or"),
        ("training.callbacks=3", r"must be a list, such as \[a,b\]\..*Write training.callbacks="),
        ("rerun=maybe", "must be one of failed, all, none.*Choose one of them"),
        ("backend=tf", "must be one of tensorflow, jax, torch or null"),
        ("data.num_train=many", "must be a whole number or null"),
        ("tune.lam=0.1", "must be a list"),
        ("tune.learning_rate=[a,b]", "must be a list"),
        ("seed=range(5,2)", "at least one value"),
        ("seed=0,-1", "must be from 0"),
        ("regularization.lam=1,-1", "finite in float32 and >= 0.*For no regularization write 0"),
        ("regularization.lam=-1e-3", "finite in float32 and >= 0"),
        ("training.epochs=1,0", "must be positive"),
        ("regularization.lam=interval(0.1,1)", "must name its values"),
        ("seed=glob(*)", "must name its values"),
    ],
)
def test_mistakes(override: str, told: str) -> None:
    """What was expected, and what was typed, word for word."""
    with pytest.raises(ConfigError, match=told) as error:
        overrides.check_overrides([override], TuneConfig)
    assert f"Received: {override}." in str(error.value)


@pytest.mark.parametrize(
    "override",
    ["seed=range(3)", "regularization.lam=1,0.5,${optimizer.learning_rate}", "backend=null",
     "optimizer.learning_rate=2", "training.jit=yes,no", "data.num_train=null,100",
     "tracking.study=7", "regularization.lam=shuffle(1e-3,1e-2)", "regularization=glob(*)"],
)  # fmt: skip
def test_what_fits_passes(override: str) -> None:
    """Whole numbers where numbers may be, interpolations, null where it means something."""
    overrides.check_overrides([override], Config)
