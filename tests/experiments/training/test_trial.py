"""One training run: what it reports, and that it repeats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l2keras_experiments.config.schema import (
    Backend,
    Config,
    ConfigError,
    Device,
    Dtype,
    MixedPrecision,
    RegularizationConfig,
)
from l2keras_experiments.data.datasets import load_data
from l2keras_experiments.runtime import device
from l2keras_experiments.training.regularization import METHODS, build_method
from l2keras_experiments.training.trial import TrialResult, run_trial
from tests.support import configs, factorial


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
@pytest.mark.parametrize("name", factorial.sample(sorted(METHODS), 3))
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
def test_the_penalty_has_the_lambda_of_each_variable() -> None:
    """lam/2 * |W|^2 with lam 0.1 * 0.5 on the first kernel and 0.1 * 2 on the other two."""
    config = config_of("decoupled", 0.1, epochs=1)
    config.regularization.scale = {"*hidden_1/kernel": 0.5, "*": 2.0}
    result = train(config)
    squares = [float(np.sum(np.square(w.numpy()))) for w in result.model.weights if w.ndim == 2]
    expected = (0.05 * squares[0] + 0.2 * (squares[1] + squares[2])) / 2
    assert result.history["penalty"] == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.usefixtures("eager_steps")
def test_what_has_no_penalty_logs_none() -> None:
    """Cautious decay depends on the step, too; of a schedule lambda counts as it is now."""
    config = config_of("decoupled", 0.1, epochs=2)
    config.regularization.schedule = "linear"
    first, last = train(config).history["penalty"]
    assert first > last == 0
    config.regularization.arguments["cautious"] = True
    assert "penalty" not in train(config).history


@pytest.mark.usefixtures("eager_steps")
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"include": "*nothing*"}, r"`regularization\.include` must match.*'\*nothing\*'"),
        ({"scale": {"*foo*": 1.0}}, r"`regularization\.scale` must match.*'\*foo\*'"),
        ({"arguments": {"corrected": ["*foo*"]}}, r"`regularization\.corrected` must match"),
        ({"groups": [{"include": "*hidden_1/kernel"}]}, "hidden_1/kernel"),
    ],
)
def test_what_the_model_cannot_take_is_a_mistake_of_the_config(
    keys: dict[str, Any], message: str
) -> None:
    """What only the model shows: one line that names the key."""
    config = config_of("decoupled", 0.1, epochs=1)
    config.regularization = RegularizationConfig(name="decoupled", lam=0.1, **keys)
    with pytest.raises(ConfigError, match=message):
        train(config)


@pytest.mark.usefixtures("eager_steps")
def test_decay_per_step_is_learning_rate_times_lambda() -> None:
    """decay_per_step is eta * lambda, for the built-in twice what was pasted."""
    assert train(config_of("builtin_l2", 0.1)).history["decay_per_step"][0] == pytest.approx(0.02)
    assert train(config_of("decoupled", 0.1)).history["decay_per_step"][0] == pytest.approx(0.01)


@pytest.mark.usefixtures("eager_steps")
def test_of_several_lambdas_the_largest_is_recorded() -> None:
    """The last kernel gets 0.1 * 5 and the others 0.1: no key has a number."""
    config = config_of("decoupled", 0.1)
    config.regularization.scale = {"*_1/kernel": 5.0, "*": 1.0}
    history = train(config).history
    assert not [key for key in history if key.endswith("_2")]
    assert history["weight_decay"][0] == pytest.approx(0.5)
    assert history["decay_per_step"][0] == pytest.approx(0.1 * 0.5)
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
@pytest.mark.parametrize("name", factorial.sample(sorted(METHODS), 3))
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
    factorial.sample(
        [
            {"jit": True},
            {"mixed_precision": MixedPrecision.float16},
            {"mixed_precision": MixedPrecision.bfloat16},
            {"steps_per_execution": 3},
            {"gradient_accumulation_steps": 3},
        ],
        2,
    ),
    ids=str,
)
def test_training_options(training: dict[str, Any]) -> None:
    """Every option of the step trains with decay: the data loss falls and lambda is recorded."""
    result = train(config_of("decoupled", 0.01, epochs=6, **training))
    history = result.history
    mixed = training.get("mixed_precision", MixedPrecision.none)
    computed = "float32" if mixed is MixedPrecision.none else mixed.value
    assert result.model.layers[2].compute_dtype == computed
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
    config = config_of("independent", 0.01)
    config.optimizer.learning_rate = 0.5
    assert build_method(config).effective_lam == pytest.approx(0.02)


@pytest.mark.usefixtures("eager_steps")
def test_all_variables_can_be_decayed() -> None:
    """decay_all shrinks biases too, by a penalty as by decay."""
    for name in ("decoupled", "half_l2"):
        config = config_of(name, 0.5, epochs=1)
        kernels = {row.path for row in train(config).report.rows if row.lam}
        config.regularization.decay_all = True
        both = {row.path for row in train(config).report.rows if row.lam}
        assert {path.rpartition("/")[2] for path in kernels} == {"kernel"}
        assert {path.rpartition("/")[2] for path in both} == {"kernel", "bias"}


@pytest.mark.usefixtures("eager_steps")
def test_classes_are_tested_by_accuracy_and_loss() -> None:
    """The penalty is not among what is tested."""
    result = train(config_of("half_l2", 0.1))
    assert set(result.test) == {"test_accuracy", "test_data_loss"}
    assert 0.1 < result.test["test_accuracy"] <= 1
