"""One training run: what it reports, and that it repeats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from experiments import device
from experiments.data import load_data
from experiments.regularization import METHODS, build_method, check_method
from experiments.schema import (
    Backend,
    Config,
    ConfigError,
    Device,
    Dtype,
    MixedPrecision,
    RegularizationConfig,
    Schedule,
)
from experiments.trial import TrialResult, run_trial


def config_of(name: str, lam: float, **training: Any) -> Config:
    """A second's worth of training on real digits."""
    config = Config()
    config.data.num_train = 96
    config.model.width = 8
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
    """On the test set val_loss = val_data_loss + penalty, lambda in the half convention."""
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
    config.optimizer.schedule = Schedule.cosine
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
    config.optimizer.name = optimizer
    config.model.dropout = 0.2
    first, second = train(config), train(config)
    assert first.history == second.history
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
    config.data.name, config.model.name = "teacher_student", "linear"
    history = train(config).history
    assert "val_accuracy" not in history
    assert history["val_data_loss"][-1] < history["val_data_loss"][0]


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
