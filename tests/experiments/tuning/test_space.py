"""What a study is, read off its config: refusals, the name, the config of a run."""

from __future__ import annotations

from dataclasses import fields

import pytest

from l2keras_experiments.commands import validation
from l2keras_experiments.config import composition
from l2keras_experiments.config.schema import Config, ConfigError, TuneConfig
from l2keras_experiments.tuning import space
from tests.support import factorial
from tests.support.runs import Compose, mistake


def configured(composed: Compose, *overrides: str) -> TuneConfig:
    config = validation.typed(composed("tune", *overrides))
    assert type(config) is TuneConfig
    return config


@pytest.mark.parametrize(
    ("override", "message"),
    factorial.sample(
        [
            ("regularization=none", r"a lambda\. Received: regularization\.name='none'\. Choose"),
            ("tune.lam=[1.0,0.1]", r"0 < low < high.*Received: tune\.lam=\[1\.0, 0\.1\]"),
            ("tune.lam=[0.1,0.1]", r"Received: tune\.lam=\[0\.1, 0\.1\]"),
            ("tune.lam=[0.0,0.1]", r"Received: tune\.lam=\[0\.0, 0\.1\]"),
            ("tune.lam=[-1.0,0.1]", r"Received: tune\.lam=\[-1\.0, 0\.1\]"),
            ("tune.lam=[0.1]", r"must be \[low, high\].*Received: tune\.lam=\[0\.1\]"),
            ("tune.lam=[0.1,inf]", r"Received: tune\.lam=\[0\.1, inf\]"),
            ("tune.lam=[nan,1.0]", r"Received: tune\.lam=\[nan, 1\.0\]"),
            ("tune.learning_rate=[1.0,0.1]", r"Received: tune\.learning_rate=\[1\.0, 0\.1\]"),
            ("tune.num_trials=0", r"at least 1\. Received: tune\.num_trials=0"),
            ("tune.num_seeds=0", r"at least 1\. Received: tune\.num_seeds=0"),
            ("tune.warmup_epochs=-1", r"at least 0\. Received: tune\.warmup_epochs=-1"),
            ("tune.timeout=0", r"positive\. Received: tune\.timeout=0\.0\. For no limit pass null"),
            (
                "tune.storage=a.db",
                r"Received: tune\.storage=a\.db\. For a file pass sqlite:///a\.db",
            ),
        ],
        7,
    ),
)
def test_what_cannot_be_searched_is_refused(composed: Compose, override: str, message: str) -> None:
    """A search that cannot be is refused, saying what came and what is expected."""
    config = configured(composed, override)
    with pytest.raises(ConfigError, match=message):
        space.check_tuning(config)


def test_the_defaults_can_be_searched(composed: Compose) -> None:
    """Every method with a lambda passes with the default ranges, and with a learning rate."""
    for method in sorted(set(composition.default_found().groups()["regularization"]) - {"none"}):
        overrides = [f"regularization={method}", "tune.learning_rate=[1e-3,1.0]"]
        space.check_tuning(configured(composed, *overrides))


def test_a_mistake_is_answered_before_a_backend() -> None:
    """An inverted range ends the command with status 2 and one line, no heavy package loaded."""
    told = mistake("experiments.tune", "tune.lam=[1,0.1]")
    assert "Received: tune.lam=[1.0, 0.1]" in told


@pytest.mark.parametrize(
    ("override", "same"),
    factorial.sample(
        [
            # how long, where to, how it is shown: the trials stay what they are
            ("tune.num_trials=99", True),
            ("tune.timeout=5", True),
            ("tune.storage=sqlite:///other.db", True),
            ("tune.preset=mine", True),
            ("tracking.uri=sqlite:///other.db", True),
            ("tracking.log_model=true", True),
            ("training.progress=false", True),
            ("regularization.lam=0.5", True),  # searched
            # what a trial would give changes
            ("optimizer.learning_rate=0.5", False),  # not searched
            ("tune.lam=[1e-4,1.0]", False),
            ("tune.learning_rate=[0.1,1.0]", False),
            ("tune.num_seeds=2", False),
            ("tune.pruning=false", False),
            ("seed=1", False),
            ("training.epochs=3", False),
            ("model.activation=tanh", False),
            ("tracking.study=another", False),
        ],
        7,
    ),
)
def test_the_name_of_a_study_tells_its_trials_apart(
    composed: Compose, override: str, same: bool
) -> None:
    """Two configs have one study if and only if their trials have the same results."""
    name = space.study_name(configured(composed))
    assert name.startswith("digits_mlp_half_l2_sgd-")
    assert (space.study_name(configured(composed, override)) == name) is same


def test_a_searched_learning_rate_is_no_part_of_the_name(composed: Compose) -> None:
    """Where the learning rate is searched, the one in the config does not matter."""
    searched = "tune.learning_rate=[0.1,1.0]"
    names = {
        space.study_name(configured(composed, searched, f"optimizer.learning_rate={rate}"))
        for rate in (0.1, 0.5)
    }
    assert len(names) == 1


def test_the_config_of_a_run_is_one_of_train(composed: Compose) -> None:
    """A run of a trial has the drawn values, its seed, and else the config as it was."""
    config = configured(composed, "optimizer=momentum", "training.epochs=7")
    run = space.run_config(config, {space.LAM: 0.03, space.RATE: 0.4}, seed=5)
    assert type(run) is Config
    assert (run.regularization.lam, run.optimizer.learning_rate, run.seed) == (0.03, 0.4, 5)
    assert run.optimizer.arguments["momentum"] == 0.9
    for item in fields(Config):
        if item.name not in ("regularization", "optimizer", "seed"):
            assert getattr(run, item.name) == getattr(config, item.name)
    fixed = space.run_config(config, {space.LAM: 0.03}, seed=5)
    assert fixed.optimizer.learning_rate == config.optimizer.learning_rate
