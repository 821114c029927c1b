"""What one run measures: each metric on its part, whatever the task and the inputs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from l2keras_experiments.config.schema import Config, ModelConfig
from l2keras_experiments.data.datasets import Dataset
from l2keras_experiments.training.trial import TrialResult, run_trial
from tests.support import configs


def zeros(task: str, targets: list[list[float]], test: bool = True) -> Dataset:
    """Four examples a part, all inputs zero, so that only the bias of a linear model learns.

    Args:
        task: That of the dataset.
        targets: Of every example of the training, validation and test part.
        test: Whether there is a test part.
    """
    x, ys = np.zeros((4, 2), "float32"), [np.array([y] * 4, "float32") for y in targets]
    x_test, y_test = (x, ys[2]) if test else (None, None)
    return Dataset("zeros", x, ys[0], x, ys[1], x_test, y_test, task, len(targets[0]))


def one_step(data: Dataset, model: ModelConfig, learning_rate: float) -> TrialResult:
    config = Config(model=model, optimizer=configs.optimizer(learning_rate=learning_rate))
    config.training.epochs = 1
    return run_trial(config, data)


@pytest.mark.usefixtures("eager_steps")
def test_each_part_is_measured_where_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """From bias 0 a step at 0.25 towards the target 1 leads to 0.25 * 2 * 1 = 0.5.

    So validation, whose target is 3, has 2.5**2, and the test, whose target is 5, 4.5**2. The test
    part is looked at once, after training.
    """
    data, seen = zeros("regression", [[1.0], [3.0], [5.0]]), []
    evaluate = keras.Model.evaluate

    def watched(self: Any, x: Any = None, *arguments: Any, **options: Any) -> Any:
        if x is data.x_test:
            seen.append(int(self.optimizer.iterations))
        return evaluate(self, x, *arguments, **options)

    monkeypatch.setattr(keras.Model, "evaluate", watched)
    result = one_step(data, configs.model("linear"), 0.25)
    assert result.model.get_weights()[1].tolist() == [0.5]
    assert result.history["data_loss"] == [1.0]
    assert result.history["val_data_loss"] == [6.25]
    assert result.test == {"test_data_loss": 20.25}
    assert seen == [1]
    assert not [key for key in result.history if key.startswith("test_")]


@pytest.mark.usefixtures("eager_steps")
def test_without_a_test_part_there_are_no_test_metrics() -> None:
    data = zeros("regression", [[1.0], [3.0], [5.0]], test=False)
    result = one_step(data, configs.model("linear"), 0.25)
    assert (result.test, result.history["val_data_loss"]) == ({}, [6.25])


@pytest.mark.usefixtures("eager_steps")
def test_labels_are_each_right_or_wrong() -> None:
    """A step from logits 0 leads to (0.25, -0.25): labels 1 and 0.

    The gradient of the mean over two labels is half of sigmoid(0) - y = -1/2 and 1/2.
    """
    data = zeros("multilabel", [[1, 0], [1, 0], [1, 1]])
    result = one_step(data, configs.model("linear"), 1.0)
    assert result.model.get_weights()[1].tolist() == pytest.approx([0.25, -0.25])
    assert result.history["data_loss"] == pytest.approx([np.log(2)])
    right = np.log1p(np.exp(-0.25))  # the loss of each label
    assert result.history["val_data_loss"] == pytest.approx([right], rel=1e-5)
    assert result.history["val_accuracy"] == [1.0]
    assert result.test["test_accuracy"] == 0.5
    assert result.test["test_data_loss"] == pytest.approx(right + 0.125, rel=1e-5)


def two_inputs(input_shape: dict[str, Any], num_outputs: int) -> keras.Model:
    """The sum of two linear models, of the inputs a and b."""
    inputs = {name: keras.Input(shape, name=name) for name, shape in input_shape.items()}
    sums = [keras.layers.Dense(num_outputs, name=f"of_{name}")(x) for name, x in inputs.items()]
    return keras.Model(inputs, keras.layers.Add()(sums))


@pytest.mark.parametrize("method", ["half_l2", "decoupled"])
def test_nested_inputs_train(method: str) -> None:
    """Traced as for users; the loss falls and lambda acts on both kernels."""
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(32, 2)), "b": rng.normal(size=(32, 3))}
    x = {name: array.astype("float32") for name, array in x.items()}
    y = (x["a"].sum(axis=1, keepdims=True) - x["b"][:, :1]).astype("float32")
    config = Config(model=configs.of_target(ModelConfig, f"{__name__}.two_inputs"))
    config.regularization.name, config.regularization.lam = method, 0.01
    config.training.epochs = 5
    data = Dataset("nested", x, y, x, y, x, y, "regression", 1)
    result = run_trial(config, data)
    assert result.history["val_data_loss"][-1] < result.history["val_data_loss"][0]
    assert result.test["test_data_loss"] == result.history["val_data_loss"][-1]
    assert sorted(row.path for row in result.report.rows if row.lam) == [
        "of_a/kernel", "of_b/kernel"
    ]  # fmt: skip
