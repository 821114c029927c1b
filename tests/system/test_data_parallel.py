"""Training shared by several devices: the result of one device, penalty and decay counted once."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from l2keras_experiments.config import paths

# Logical devices must exist before TensorFlow starts: a process of its own, for all cases.
PROGRAM = """
import json, sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from l2keras_experiments.runtime import device
from l2keras_experiments.data.datasets import load_data
from l2keras_experiments.config.schema import Config, ConfigError, Device, Distribute
from l2keras_experiments.training.trial import run_trial
from tests.support import configs

def train(name, lam, distribute, model="mlp", num_train=96, **training):
    config = Config(device=Device.cpu, distribute=distribute)
    config.data.num_train, config.model = num_train, configs.model(model, width=8)
    config.regularization.name, config.regularization.lam = name, lam
    config.optimizer = configs.optimizer("sgd", learning_rate=0.1, momentum=0.9)
    config.training.epochs = 3
    for key, value in training.items():
        setattr(config.training, key, value)
    device.set_up(config)
    data = load_data(config.data, config.seed, config.training.dtype.value)
    result = run_trial(config, data, keep_trajectory=True)
    assert result.model.distribute_strategy.num_replicas_in_sync == (
        2 if distribute is Distribute.mirrored else 1
    )
    keys = ("loss", "data_loss", "val_loss", "val_data_loss", "penalty")
    return result.trajectory.tolist(), {key: result.history[key] for key in keys}

def refusal(**given):
    try:
        train("none", 0.0, Distribute.mirrored, **given)
    except ConfigError as error:
        return str(error)

methods = json.loads(sys.argv[1])
trained = {}
for distribute in (Distribute.none, Distribute.mirrored):
    found = {name: train(name, lam, distribute) for name, lam in methods.items()}
    found["normalized"] = train("half_l2", 0.01, distribute, model="cnn")
    trained[distribute.value] = found
refused = [
    refusal(batch_size=33), refusal(batch_size=64, num_train=51), refusal(jit=True),
    refusal(steps_per_execution=2), refusal(gradient_accumulation_steps=2),
]
print(json.dumps({"one": trained["none"], "two": trained["mirrored"], "refused": refused}))
"""
# learning_rate * lambda = 0.05 a step, or 0.1 for what counts lambda twice.
METHODS = {"none": 0.0, "half_l2": 0.5, "builtin_l2": 0.25, "decoupled": 0.5, "coupled": 0.5}


@pytest.fixture(scope="module")
def trained() -> Any:
    """Every method on one device and on two, and the refusals of what cannot be shared."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(METHODS)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=paths.PROJECT)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("method", [*METHODS, "normalized"])
def test_two_devices_train_as_one(trained: Any, method: str) -> None:
    """Weights, losses and penalty on two devices are those of one, to 1e-5; BatchNorm's too."""
    (one, one_history), (two, two_history) = trained["one"][method], trained["two"][method]
    norm = np.linalg.norm(one[-1])
    assert np.linalg.norm(np.subtract(one[-1], two[-1])) < 1e-5 * norm
    for key, values in one_history.items():
        np.testing.assert_allclose(two_history[key], values, rtol=1e-5, atol=1e-7, err_msg=key)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "none"])
def test_counting_twice_would_be_seen(trained: Any, method: str) -> None:
    """The decay is so strong that the weights without it are far from those with it."""
    decayed, undecayed = (trained["two"][name][0][-1] for name in (method, "none"))
    assert np.linalg.norm(decayed) < 0.7 * np.linalg.norm(undecayed)


@pytest.mark.parametrize("method", ["half_l2", "builtin_l2"])
def test_the_loss_holds_the_penalty_once(trained: Any, method: str) -> None:
    """On two devices val_loss - val_data_loss is one penalty, not one a device."""
    history = {key: np.array(values) for key, values in trained["two"][method][1].items()}
    assert np.all(history["penalty"] > 0.1)
    gap = history["val_loss"] - history["val_data_loss"]
    np.testing.assert_allclose(gap, history["penalty"], rtol=1e-4)


def test_what_cannot_be_shared_is_refused(trained: Any) -> None:
    """A batch that two devices cannot halve, or a step that TensorFlow cannot share, raises."""
    odd, few, jit, steps, accumulation = trained["refused"]
    assert "multiple of the number of devices that share it. Received: a batch of 33 on" in odd
    assert "Received: a batch of 51 on" in few
    assert "`training.jit` must be False" in jit
    assert "`training.steps_per_execution` must be 1" in steps
    assert "`training.gradient_accumulation_steps` must be 1" in accumulation
