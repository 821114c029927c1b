"""One training run: what it reports, and that it repeats."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from l2keras_experiments.config.schema import (
    Backend,
    Config,
    ConfigError,
    Device,
    Dtype,
    MixedPrecision,
    ModelConfig,
    RegularizationConfig,
)
from l2keras_experiments.data.datasets import Dataset, load_data
from l2keras_experiments.runtime import device
from l2keras_experiments.training.regularization import METHODS, build_method, check_method
from l2keras_experiments.training.trial import TrialResult, run_trial
from tests.support import configs


def config_of(name: str, lam: float, **training: Any) -> Config:
    """A second's worth of training on real digits."""
    config = Config()
    config.data.num_train = 96
    config.model = configs.model("mlp", width=8)
    config.optimizer.learning_rate = 0.1
    config.regularization.name, config.regularization.lam = name, lam
    config.training.epochs = 3
    for key, value in training.items():
        setattr(config.training, key, value)
    return config


def train(config: Config, **kept: Any) -> TrialResult:
    device.set_up(config)
    data = load_data(config.data, config.seed, config.training.dtype.value)
    return run_trial(config, data, **kept)


@pytest.mark.usefixtures("eager_steps")
@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_reports_the_same_metrics(name: str) -> None:
    """Each method reports every promised metric, once an epoch."""
    history = train(config_of(name, 0.1)).history
    promised = {
        "loss", "data_loss", "penalty", "accuracy", "val_loss", "val_data_loss", "val_accuracy",
        "weight_norm", "learning_rate", "decay_per_step",
    }  # fmt: skip
    assert promised <= set(history)
    assert {len(values) for values in history.values()} == {3}


@pytest.mark.usefixtures("eager_steps")
@pytest.mark.parametrize(("name", "effective"), [("builtin_l2", 0.2), ("half_l2", 0.1)])
def test_loss_is_data_loss_plus_penalty(name: str, effective: float) -> None:
    """On the validation part val_loss = val_data_loss + penalty, lambda in the half convention."""
    result = train(config_of(name, 0.1, dtype=Dtype.float64))
    assert result.effective_lam == pytest.approx(effective)
    for loss, data_loss, penalty, norm in zip(
        *(result.history[k] for k in ("val_loss", "val_data_loss", "penalty", "weight_norm")),
        strict=True,
    ):
        assert penalty == pytest.approx(effective / 2 * norm**2)
        assert loss == pytest.approx(data_loss + penalty, rel=1e-6)


@pytest.mark.usefixtures("eager_steps")
def test_decay_per_step_is_learning_rate_times_lambda() -> None:
    """decay_per_step is eta * lambda, for the built-in twice what was pasted."""
    assert train(config_of("builtin_l2", 0.1)).history["decay_per_step"][0] == pytest.approx(0.02)
    assert train(config_of("decoupled", 0.1)).history["decay_per_step"][0] == pytest.approx(0.01)
    independent = train(config_of("independent", 0.01))
    assert independent.history["decay_per_step"][0] == pytest.approx(0.01)
    assert independent.effective_lam == pytest.approx(0.1)


@pytest.mark.usefixtures("eager_steps")
def test_the_learning_rate_of_a_schedule_is_recorded() -> None:
    """The recorded learning rate is that of the last step: warm-up up, cosine down."""
    config = config_of("none", 0.0, epochs=4)
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_fraction = 0.5
    rates = train(config).history["learning_rate"]
    assert rates[0] == pytest.approx(0.1 * 2 / 6)  # third of six steps of warm-up
    assert rates[1] == pytest.approx(0.1 * 5 / 6)
    assert 0 < rates[3] < rates[2] < 0.1


@pytest.mark.usefixtures("eager_steps")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_same_config_twice(optimizer: str) -> None:
    """The same config gives the same metrics and the same weights, to the last bit, on CPU."""
    config = config_of("decoupled", 0.1)
    config.optimizer = configs.optimizer(optimizer, learning_rate=0.1)
    config.model.arguments["dropout"] = 0.2
    first, second = train(config), train(config)
    assert first.history == second.history
    assert first.test == second.test
    for a, b in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.usefixtures("eager_steps")
@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_report_has_the_lambda_of_the_method(name: str) -> None:
    """What is audited before the first step is the effective lambda, on every kernel."""
    heard: list[Any] = []
    result = train(config_of(name, 0.1, epochs=1), on_report=heard.append)
    assert heard == [result.report]
    lams = [row.lam for row in result.report.rows if row.role == "kernel"]
    assert lams == pytest.approx([result.effective_lam] * len(lams))
    assert lams
    assert "decayed-twice" not in result.report.codes()


@pytest.mark.usefixtures("eager_steps")
def test_seeds_differ() -> None:
    """Another seed is another run."""
    config = config_of("none", 0.0)
    first = train(config)
    config.seed = 1
    assert first.history["val_data_loss"] != train(config).history["val_data_loss"]


@pytest.mark.usefixtures("eager_steps")
def test_trajectories_start_at_the_same_weights() -> None:
    """The trajectory has one row before training, the same for every method, and one an epoch."""
    kept = [
        train(config_of(name, 0.1), keep_trajectory=True).trajectory
        for name in ("half_l2", "optimizer_weight_decay")
    ]
    a, b = (np.asarray(trajectory) for trajectory in kept)
    assert a.shape == (4, 8 * 64 + 8 + 8 * 8 + 8 + 8 * 10 + 10)
    assert np.array_equal(a[0], b[0])
    assert not np.array_equal(a[0], a[1])


@pytest.mark.parametrize(
    "training",
    [
        {"jit": True},
        {"mixed_precision": MixedPrecision.float16},
        {"mixed_precision": MixedPrecision.bfloat16},
        {"steps_per_execution": 3},
        {"gradient_accumulation_steps": 3},
    ],
    ids=str,
)
def test_training_options(training: dict[str, Any]) -> None:
    """Every option of the step trains with decay: the data loss falls and lambda is recorded."""
    history = train(config_of("decoupled", 0.01, epochs=6, **training)).history
    assert history["data_loss"][-1] < history["data_loss"][0]
    assert history["weight_decay"][-1] == pytest.approx(0.01)


@pytest.mark.usefixtures("eager_steps")
def test_on_epoch_hears_of_every_epoch() -> None:
    """The caller is told of each epoch as it ends."""
    heard: list[int] = []
    train(config_of("none", 0.0), on_epoch=lambda epoch, metrics: heard.append(epoch))
    assert heard == [0, 1, 2]


@pytest.mark.usefixtures("eager_steps")
def test_regression_has_no_accuracy() -> None:
    """On teacher_student the data loss is the mean squared error and there is no accuracy."""
    config = config_of("half_l2", 0.01)
    config.data = configs.data("teacher_student", num_train=96)
    config.model = configs.model("linear")
    result = train(config)
    assert "val_accuracy" not in result.history
    assert result.history["val_data_loss"][-1] < result.history["val_data_loss"][0]
    assert set(result.test) == {"test_data_loss"}


def test_gpu_without_one_is_an_error() -> None:
    """device=gpu on a machine without one raises with the remedy."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    config = config_of("none", 0.0)
    config.device = Device.gpu
    with pytest.raises(ConfigError, match=r"device=gpu needs a GPU.*device=auto"):
        device.set_up(config)


def test_the_backend_cannot_change_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for another backend than the one that runs raises."""
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    config = config_of("none", 0.0)
    config.backend = Backend.jax
    with pytest.raises(ConfigError, match="cannot change"):
        device.set_up(config)


def test_independent_is_relative_to_the_peak() -> None:
    """independent at lam is decoupled at lam / peak."""
    config = RegularizationConfig("independent", 0.01)
    assert build_method(config, 0.5).effective_lam == pytest.approx(0.02)


@pytest.mark.usefixtures("eager_steps")
def test_all_variables_can_be_decayed() -> None:
    """decay_all shrinks biases too, and is refused where the method could not follow."""
    config = config_of("decoupled", 0.5)
    kernels = {row.path for row in train(config).report.rows if row.lam}
    config.regularization.decay_all = True
    both = {row.path for row in train(config).report.rows if row.lam}
    assert {path.rpartition("/")[2] for path in kernels} == {"kernel"}
    assert {path.rpartition("/")[2] for path in both} == {"kernel", "bias"}
    config.regularization.name = "half_l2"
    with pytest.raises(ConfigError, match="decay_all=true with regularization"):
        check_method(config.regularization)


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
    config = config_of(method, 0.01, epochs=5)
    config.model = configs.of_target(ModelConfig, f"{__name__}.two_inputs")
    data = Dataset("nested", x, y, x, y, x, y, "regression", 1)
    result = run_trial(config, data)
    assert result.history["val_data_loss"][-1] < result.history["val_data_loss"][0]
    assert result.test["test_data_loss"] == result.history["val_data_loss"][-1]
    assert sorted(row.path for row in result.report.rows if row.lam) == [
        "of_a/kernel", "of_b/kernel"
    ]  # fmt: skip


@pytest.mark.usefixtures("eager_steps")
def test_classes_are_tested_by_accuracy_and_loss() -> None:
    """The penalty is not among what is tested."""
    result = train(config_of("half_l2", 0.1))
    assert set(result.test) == {"test_accuracy", "test_data_loss"}
    assert 0.1 < result.test["test_accuracy"] <= 1
