"""Early stopping: which epoch is best, what is kept of it, and that a killed run ends alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2keras_experiments.config.schema import (
    Config,
    ConfigError,
    EarlyStoppingConfig,
    TrainingConfig,
)
from l2keras_experiments.data.datasets import load_data
from l2keras_experiments.runtime import device
from l2keras_experiments.training.stopping import EarlyStopping, validated_epochs
from l2keras_experiments.training.trial import TrialResult, run_trial
from tests.support import configs


def stopping(**keys: Any) -> EarlyStopping:
    config = EarlyStoppingConfig(**{"patience": 2, **keys})
    return EarlyStopping(TrainingConfig(early_stopping=config))


@pytest.mark.parametrize(
    ("keys", "values", "best"),
    [
        ({}, [3.0, 2.0, 4.0], 1),
        ({}, [3.0, 2.0, 2.0], 1),  # the first of equals
        ({}, [np.nan, 5.0, 4.0], 2),
        ({"min_delta": 1.5}, [3.0, 2.0, 1.0], 2),  # 3 - 1 > 1.5, 3 - 2 is not
        ({"min_delta": 2.5}, [3.0, 2.0, 1.0], 0),
        ({"mode": "max"}, [3.0, 2.0, 4.0], 2),
    ],
)
def test_the_best_epoch_is_the_first_that_none_improves(
    keys: dict[str, Any], values: list[float], best: int
) -> None:
    assert stopping(**keys).best_epoch({"val_data_loss": values}) == best


def test_an_accuracy_is_to_grow() -> None:
    history = {"val_accuracy": [0.1, 0.3, 0.2]}
    assert stopping(monitor="val_accuracy").best_epoch(history) == 1
    assert stopping(monitor="val_accuracy", mode="min").best_epoch(history) == 0
    own = EarlyStoppingConfig(patience=2, monitor="val_acc")
    called = EarlyStopping(TrainingConfig(metrics=["acc"], early_stopping=own))
    assert called.best_epoch({"val_acc": [0.1, 0.3, 0.2]}) == 1
    selected = EarlyStoppingConfig(patience=2)  # watches what selects
    auc = [{"_target_": "keras.metrics.AUC"}]
    config = TrainingConfig(metrics=auc, selection="val_auc", early_stopping=selected)
    assert EarlyStopping(config).best_epoch({"val_auc": [0.1, 0.3, 0.2]}) == 1


@pytest.mark.parametrize(
    ("values", "over"), [([2.0, 1.0, 3.0], False), ([2.0, 1.0, 3.0, 3.0], True)]
)
def test_it_is_over_after_so_many_epochs_without_a_better_one(
    values: list[float], over: bool
) -> None:
    """Patience 2: the best is epoch 1, so epoch 3 is the last."""
    assert stopping().is_over({"val_data_loss": values}) is over
    assert not stopping().is_over({})


def test_a_metric_that_is_not_measured_is_named() -> None:
    with pytest.raises(ConfigError, match=r"Received: val_acc. Choose among: val_accuracy"):
        stopping(monitor="val_acc", mode="max").best_epoch({"val_accuracy": [0.5]})


@pytest.mark.parametrize(
    ("epochs", "frequency", "validated"),
    [(4, 1, 1), (6, 2, [2, 4, 6]), (5, 3, [3, 5]), (2, 9, [2])],
)
def test_the_last_epoch_is_validated(epochs: int, frequency: int, validated: Any) -> None:
    assert validated_epochs(epochs, frequency) == validated


def config_of(**stopping: Any) -> Config:
    """Steps so large that the loss soon rises again."""
    config = Config()
    config.data.num_train = 96
    config.model = configs.model("mlp", width=8)
    config.optimizer.learning_rate = 1.5
    config.training.epochs = 12
    config.training.early_stopping = EarlyStoppingConfig(patience=2, **stopping)
    return config


def train(config: Config, **kept: Any) -> TrialResult:
    device.set_up(config)
    data = load_data(config.data, config.seed, config.training.dtype.value)
    return run_trial(config, data, **kept)


class Interruption(Exception):
    """What a kill is, as far as a test can go on after it."""


@pytest.mark.usefixtures("eager_steps")
@pytest.mark.parametrize("restore", [True, False])
def test_a_run_that_was_killed_stops_and_ends_as_one_that_was_not(
    restore: bool, tmp_path: Path
) -> None:
    """Killed after the best epoch: its weights come from the file that was kept of them."""
    config = config_of(restore_best=restore)
    epochs: list[tuple[int, float]] = []
    restored: list[tuple[int, float]] = []
    whole = train(
        config,
        on_epoch=lambda epoch, m: epochs.append((epoch, m["val_data_loss"])),
        on_restored=lambda epoch, m: restored.append((epoch, m["val_data_loss"])),
    )
    losses = whole.history["val_data_loss"]
    trained = len(losses) - restore  # the best one stands there once more
    best = int(np.argmin(losses[:trained]))
    assert trained == best + 3 < 12
    assert epochs == list(enumerate(losses[:trained]))
    assert restored == ([(trained, losses[best])] if restore else [])
    assert [*epochs, *restored] == list(enumerate(losses))

    def kill(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == best + 2:
            raise Interruption

    path = tmp_path / "run.state"
    with pytest.raises(Interruption):
        train(config, on_epoch=kill, checkpoint_path=path)
    resumed = train(config, checkpoint_path=path)
    assert resumed.history == whole.history
    assert resumed.test == whole.test
    for ours, theirs in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.usefixtures("eager_steps")
def test_epochs_without_validation_have_none() -> None:
    """Of five epochs the third and the last are validated; the others have nan, and tell none."""
    config = config_of()
    config.training.early_stopping, config.training.epochs = EarlyStoppingConfig(), 5
    config.training.validation_freq = 3
    told: list[bool] = []
    result = train(config, on_epoch=lambda epoch, metrics: told.append("val_accuracy" in metrics))
    assert told == [False, False, True, False, True]
    assert np.isnan(result.history["val_accuracy"]).tolist() == [not one for one in told]
