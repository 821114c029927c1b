"""Loss, metrics and callbacks: those of the task, or those of the config."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from l2keras_experiments.config.schema import ConfigError, TrainingConfig
from l2keras_experiments.training import objectives

LOGITS = np.array([[2.0, -1.0, 0.0], [0.0, 1.0, 3.0]], "float32")


def value(metric: Any, y: Any) -> float:
    metric.update_state(np.array(y), LOGITS)
    return float(metric.result())


@pytest.mark.parametrize(
    ("task", "y", "expected"),
    [
        # -log softmax: log(e^2 + e^-1 + 1) - 2 = .16984602, log(1 + e + e^3) - 3 = .16984602
        ("classification", [0, 2], 0.16984602),
        # log(1 + e^-x) for 1, log(1 + e^x) for 0, over the six logits
        ("multilabel", [[1, 0, 0], [0, 1, 1]],
         (np.log1p(np.exp([-2.0, -1.0, 0.0, 0.0, -1.0, -3.0]))).mean()),
        ("regression", [[2.0, 0.0, 0.0], [0.0, 1.0, 1.0]], (1.0 + 4.0) / 6),
    ],
)  # fmt: skip
def test_the_loss_of_a_task_is_also_the_metric(task: str, y: Any, expected: float) -> None:
    """On logits, by hand."""
    loss = objectives.loss_of(TrainingConfig(), task)
    assert float(loss(np.array(y), LOGITS)) == pytest.approx(expected, rel=1e-6)
    metric = objectives.data_loss_metric(TrainingConfig(), task)
    assert value(metric, y) == pytest.approx(expected, rel=1e-6)


def test_a_label_is_right_by_the_sign_of_its_logit() -> None:
    """Of (2, -1, 0) and (0, 1, 3) against these labels the 0 of the first row is no label."""
    [metric] = objectives.metrics_of(TrainingConfig(), "multilabel")
    assert value(metric, [[1, 0, 0], [1, 1, 1]]) == pytest.approx(5 / 6)
    assert metric.name == "accuracy"
    assert objectives.metrics_of(TrainingConfig(), "classification") == ["accuracy"]
    assert objectives.metrics_of(TrainingConfig(), "regression") == []


@pytest.mark.parametrize(
    "loss", ["mae", {"_target_": "keras.losses.MeanAbsoluteError"}, "mean_absolute_error"]
)
def test_a_loss_of_the_config_is_measured_too(loss: Any) -> None:
    """|2 - 1| + |-1| + 0 + 0 + |1 - 1| + |3 - 1| over six."""
    config = TrainingConfig(loss=loss)
    y = [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
    found = keras.losses.get(objectives.loss_of(config, "regression"))
    assert float(np.mean(found(np.array(y), LOGITS))) == pytest.approx(4 / 6)
    assert value(objectives.data_loss_metric(config, "regression"), y) == pytest.approx(4 / 6)


def test_metrics_and_callbacks_come_from_names_and_targets() -> None:
    config = TrainingConfig(
        metrics=["accuracy", {"_target_": "keras.metrics.MeanSquaredError", "name": "mine"}],
        callbacks=[{"_target_": "keras.callbacks.TerminateOnNaN"}],
    )
    first, second = objectives.metrics_of(config, "classification")
    assert (first, second.name) == ("accuracy", "mine")
    [callback] = objectives.callbacks_of(config)
    assert isinstance(callback, keras.callbacks.TerminateOnNaN)
    wrong = TrainingConfig(callbacks=[{"_target_": "keras.losses.MeanSquaredError"}])
    with pytest.raises(ConfigError, match=r"must make a keras.callbacks.Callback. Received: Mean"):
        objectives.callbacks_of(wrong)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TrainingConfig(loss=3), "`training.loss` must be a name of Keras"),
        (TrainingConfig(loss={"_target_": "keras.losses.Nope"}), "no Nope"),
        (
            TrainingConfig(loss="crosentropy"),
            r"training\.loss=crosentropy\. Did you mean \w*_crossentropy\?",
        ),
        (TrainingConfig(metrics=["auc", "accurcy"]), r"metrics\.1=accurcy\. .* mean accuracy\?"),
        (TrainingConfig(metrics="accuracy"), "`training.metrics` must be a list"),
        (TrainingConfig(metrics=[1]), "`training.metrics.0` must be a name"),
        (TrainingConfig(callbacks=[{"monitor": "loss"}]), "callbacks.0._target_` must be module"),
        (TrainingConfig(callbacks=["mine"]), r"Write callbacks: \[{_target_: mine}\]"),
        (TrainingConfig(class_weight={"a": 1.0}), "must map numbers of classes"),
        (TrainingConfig(class_weight={0: -1.0}), "must map numbers of classes"),
    ],
)
def test_what_cannot_be_is_named(config: TrainingConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        objectives.check_training(config)
    objectives.check_training(TrainingConfig())


@pytest.mark.parametrize(
    ("task", "weights", "message"),
    [
        ("regression", {0: 1.0}, "needs classes, which a regression does not have"),
        ("classification", {0: 1.0, 1: 5.0}, r"from 0 to 2. Received: .*\{0: 1.0, 1: 5.0\}"),
        ("classification", {0: 1.0, 1: 5.0, 2: 1.0, 7: 1.0}, "one weight for each class"),
    ],
)
def test_weights_are_those_of_the_classes(task: str, weights: Any, message: str) -> None:
    objectives.check_class_weight(TrainingConfig(), task, 3)
    objectives.check_class_weight(
        TrainingConfig(class_weight={0: 1, 1: 2, 2: 0}), "classification", 3
    )
    with pytest.raises(ConfigError, match=message):
        objectives.check_class_weight(TrainingConfig(class_weight=weights), task, 3)


@pytest.mark.parametrize(
    ("config", "shape", "named"),
    [
        (TrainingConfig(metrics=["AUC"]), (2,), "training.metrics.0.*Received: AUC"),
        (TrainingConfig(metrics=["accuracy", "mae"]), (3,), "training.metrics.1.*Received: mae"),
        (TrainingConfig(loss="categorical_crossentropy"), (3,), "training.loss.*sparse one"),
        (TrainingConfig(metrics=["accuracy", "sparse_top_k_categorical_accuracy"]), (3,), None),
    ],
)
def test_what_cannot_compare_the_targets_is_named(
    config: TrainingConfig, shape: tuple[int, ...], named: str | None
) -> None:
    """A metric of one-hot labels with numbers of classes, before anything trains."""
    classes = np.array([0, 1], "int32")
    if named is None:
        objectives.check_on_targets(config, "classification", classes, shape)
        return
    with pytest.raises(ConfigError, match=named):
        objectives.check_on_targets(config, "classification", classes, shape)


@pytest.mark.parametrize(
    "name", ["sparse_categorical_crossentropy", "SparseCategoricalCrossentropy"]
)
def test_a_loss_with_a_name_compares_logits(name: str) -> None:
    """As that of the task does: models return logits. By hand above."""
    loss = objectives.loss_of(TrainingConfig(loss=name), "classification")
    assert float(loss(np.array([0, 2]), LOGITS)) == pytest.approx(0.16984602, rel=1e-6)


PROBABILITIES = {"_target_": "keras.losses.SparseCategoricalCrossentropy"}
NESTED = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Softmax()])


@pytest.mark.parametrize(
    ("loss", "last", "message"),
    [
        (None, keras.layers.Dense(3, "softmax"), "must not end in softmax"),
        (None, NESTED, "must not end in softmax"),
        ("binary_crossentropy", keras.layers.Dense(3, "sigmoid"), "must not end in sigmoid"),
        (PROBABILITIES, keras.layers.Dense(3), r"Set training\.loss\.from_logits=true"),
        (None, keras.layers.Dense(3), None),
        (None, keras.layers.Dense(3, "relu"), None),
        (PROBABILITIES, keras.layers.Dense(3, "softmax"), None),
        ("mse", keras.layers.Dense(3, "sigmoid"), None),
    ],
)
def test_logits_and_probabilities_are_not_mixed_up(
    loss: Any, last: Any, message: str | None
) -> None:
    model = keras.Sequential([keras.Input((4,)), last])
    config = TrainingConfig(loss=loss)
    made = objectives.loss_of(config, "classification")
    if message is None:
        objectives.check_logits(config, made, model, "mine.build")
        return
    with pytest.raises(ConfigError, match=message):
        objectives.check_logits(config, made, model, "mine.build")


def absolute(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)


def test_a_function_of_ones_own_is_the_loss() -> None:
    """It is not called to make one: (1 + 1 + 0 + 0 + 0 + 2) / 6."""
    config = TrainingConfig(loss={"_target_": f"{__name__}.absolute"})
    objectives.check_training(config)
    found = objectives.loss_of(config, "regression")
    y = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    assert float(np.mean(found(y, LOGITS))) == pytest.approx(4 / 6)
    partial = TrainingConfig(loss={"_target_": f"{__name__}.absolute", "_partial_": True})
    with pytest.raises(ConfigError, match="Leave it out"):
        objectives.check_training(partial)


def functional(output: Any) -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, output(inputs))


class Gated(keras.Model):
    """Creates its gate last, and does not end in it."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.gate = keras.layers.Dense(3), keras.layers.Dense(4, "sigmoid")

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs * self.gate(inputs))


def test_what_makes_the_output_counts_not_the_last_layer() -> None:
    """A sum of a gate, a gate inside of a class; and softmax as an operation."""
    config, dense, gate = TrainingConfig(), keras.layers.Dense(3), keras.layers.Dense(3, "sigmoid")
    loss = objectives.loss_of(config, "classification")
    gated = Gated()
    gated(np.ones((1, 4), "float32"))
    for model in (functional(lambda x: dense(x) + gate(x)), gated):
        objectives.check_logits(config, loss, model, "mine.build")
    softmax = functional(lambda x: keras.ops.softmax(dense(x)))
    with pytest.raises(ConfigError, match="must not end in softmax"):
        objectives.check_logits(config, loss, softmax, "mine.build")
