"""The experiments train on every backend: the only part of them that has to be told apart."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from l2keras_experiments.config.schema import Config, Device, Dtype
from l2keras_experiments.data.datasets import load_data
from l2keras_experiments.runtime import device
from l2keras_experiments.training.trial import run_trial
from tests.support.configs import model
from tests.support.models import relative_distance


def trained(name: str, **training: Any) -> Any:
    """The result of three epochs of a small network on real digits."""
    config = Config(device=Device.cpu)
    config.data.num_train, config.model = 96, model("mlp", width=8)
    config.regularization.name, config.regularization.lam = name, 0.125
    config.training.epochs = 3
    for key, value in training.items():
        setattr(config.training, key, value)
    assert device.set_up(config) == "cpu"
    data = load_data(config.data, config.seed, config.training.dtype.value)
    return run_trial(config, data, keep_trajectory=True)


def test_penalty_and_decay_coincide_on_every_backend() -> None:
    """HalfL2, both couplings and the optimizer's own decay end at the same weights."""
    reference = trained("half_l2", dtype=Dtype.float64)
    for name in ("decoupled", "coupled", "optimizer_weight_decay"):
        result = trained(name, dtype=Dtype.float64)
        assert np.array_equal(result.trajectory[0], reference.trajectory[0])
        assert relative_distance(result.trajectory[-1], reference.trajectory[-1]) < 1e-6, name
    none = trained("none", dtype=Dtype.float64)
    assert relative_distance(none.trajectory[-1], reference.trajectory[-1]) > 0.05


@pytest.mark.parametrize("name", ["independent", "builtin_l2"])
def test_metrics_on_every_backend(name: str) -> None:
    """Every promised metric arrives, once an epoch, in float32 too."""
    history = trained(name).history
    for key in ("data_loss", "penalty", "val_data_loss", "val_accuracy", "weight_norm",
                "learning_rate", "decay_per_step"):  # fmt: skip
        assert len(history[key]) == 3, key
        assert all(np.isfinite(history[key])), key
    assert keras.config.floatx() == "float32"
