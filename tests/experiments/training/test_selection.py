"""The metric that ranks runs or stops them, and in which direction it improves."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from l2keras_experiments.config.schema import ConfigError, EarlyStoppingConfig, TrainingConfig
from l2keras_experiments.training import selection

AUC = {"_target_": "keras.metrics.AUC"}
TOP_K = {"_target_": "keras.metrics.SparseTopKCategoricalAccuracy", "k": 2, "name": "own_top_k"}


@pytest.mark.parametrize(
    ("metrics", "monitor", "higher"),
    [
        (["acc"], "val_acc", True),
        ([TOP_K], "val_own_top_k", True),
        ([AUC], "val_auc", True),
        (["R2Score"], "val_R2Score", True),
        (["mae"], "val_mae", False),
        ([{**AUC, "name": "recall_loss"}], "val_recall_loss", True),  # the metric, not its name
        (None, "val_accuracy", True),
        (None, "val_data_loss", False),
        (None, "val_loss", False),
    ],
)
def test_a_metric_says_itself_whether_it_is_to_grow(
    metrics: Any, monitor: str, higher: bool
) -> None:
    stopping = EarlyStoppingConfig(patience=1, monitor=monitor)
    config = TrainingConfig(metrics=metrics, early_stopping=stopping)
    assert selection.higher_is_better(config, monitor) is higher
    selected = TrainingConfig(metrics=metrics, selection=monitor)
    assert selection.higher_is_better(selected, monitor) is higher


def test_a_metric_that_does_not_say_needs_a_mode() -> None:
    """A Mean has no direction; the error names the key, before anything trains."""
    unknown = TrainingConfig(metrics=[{"_target_": "keras.metrics.Mean", "name": "own"}],
                             selection="val_own")  # fmt: skip
    with pytest.raises(ConfigError, match=r"`training.selection_mode` must be min or max.*val_own"):
        selection.higher_is_better(unknown, "val_own")
    assert selection.higher_is_better(
        TrainingConfig(metrics=unknown.metrics, selection="val_own", selection_mode="max"),
        "val_own",
    )
    stopping = EarlyStoppingConfig(patience=1, monitor="val_own", mode="max")
    config = TrainingConfig(metrics=unknown.metrics, early_stopping=stopping)
    assert selection.higher_is_better(config, "val_own")


def test_a_slip_of_the_name_is_answered_by_the_nearest() -> None:
    """Not by the question for a mode, which no metric of that name needs."""
    config = TrainingConfig(metrics=["accuracy", TOP_K], selection="val_own_topk")
    with pytest.raises(ConfigError, match=r"Received: val_own_topk\. Did you mean val_own_top_k\?"):
        selection.higher_is_better(config, "val_own_topk")


def test_early_stopping_watches_what_selects() -> None:
    assert selection.monitor_of(TrainingConfig()) == "val_data_loss"
    assert selection.monitor_of(TrainingConfig(selection="val_auc")) == "val_auc"
    stopping = EarlyStoppingConfig(monitor="val_loss")
    chosen = TrainingConfig(selection="val_auc", early_stopping=stopping)
    assert selection.monitor_of(chosen) == "val_loss"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            TrainingConfig(early_stopping=EarlyStoppingConfig(patience=1, monitor="val_acuracy")),
            r"`training.early_stopping.monitor` must be a metric of the run. Received: "
            r"training.early_stopping.monitor=val_acuracy. Did you mean val_accuracy\?",
        ),
        (
            TrainingConfig(metrics=["AUC"], selection="val_auc"),
            r"training.selection=val_auc. Did you mean val_AUC\?",
        ),
    ],
)
def test_a_monitor_that_is_not_measured_is_answered_before_keras_is_loaded(
    config: TrainingConfig, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        selection.check_monitored_names(config)


def test_a_monitor_is_answered_by_the_compiled_model_and_not_where_a_step_is_its_own() -> None:
    class Own(keras.Sequential):
        def train_step(self, *data: Any) -> Any:
            raise NotImplementedError

    config = TrainingConfig(selection="val_accuracy")
    for kind, task in ((keras.Sequential, "classification"), (Own, "regression")):
        model = kind([keras.Input((2,)), keras.layers.Dense(2)])
        selection.check_monitored(config, task, model)
    with pytest.raises(ConfigError, match=r"Received: training.selection=val_accuracy"):
        selection.check_monitored(config, "regression", keras.Sequential([keras.Input((2,))]))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TrainingConfig(early_stopping=EarlyStoppingConfig(patience=0)), "must be at least 1"),
        (TrainingConfig(early_stopping=EarlyStoppingConfig(mode="up")), "auto, min or max"),
        (TrainingConfig(selection_mode="up"), "`training.selection_mode` must be auto"),
        (TrainingConfig(selection="auc"), r"training.selection=auc. Did you mean val_auc\?"),
        (
            TrainingConfig(validation_freq=2, early_stopping=EarlyStoppingConfig(patience=1)),
            "needs a validation after each epoch",
        ),
    ],
)
def test_what_cannot_be_is_named(config: TrainingConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        selection.check_stopping(config)
    selection.check_stopping(TrainingConfig())
