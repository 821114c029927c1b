"""Training shared by several devices: the result of one device, penalty and decay counted once."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from experiments import device, paths, schema
from experiments.schema import Config, ConfigError, Distribute

# Logical devices must exist before TensorFlow starts: a process of its own, for all cases.
PROGRAM = """
import json, sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from experiments import device
from experiments.data import load_data
from experiments.schema import Config, ConfigError, Device, Distribute
from experiments.trial import run_trial

def train(name, lam, distribute, batch_size=32, num_train=96):
    config = Config(device=Device.cpu, distribute=distribute)
    config.data.num_train, config.model.width = num_train, 8
    config.regularization.name, config.regularization.lam = name, lam
    config.optimizer.learning_rate, config.optimizer.momentum = 0.1, 0.9
    config.training.epochs, config.training.batch_size = 3, batch_size
    device.set_up(config)
    data = load_data(config.data, config.seed, config.training.dtype.value)
    result = run_trial(config, data, keep_trajectory=True)
    assert result.model.distribute_strategy.num_replicas_in_sync == (
        2 if distribute is Distribute.mirrored else 1
    )
    keys = ("loss", "data_loss", "val_loss", "val_data_loss", "penalty")
    return result.trajectory.tolist(), {key: result.history[key] for key in keys}

def refusal(batch_size, num_train):
    try:
        train("none", 0.0, Distribute.mirrored, batch_size, num_train)
    except ConfigError as error:
        return str(error)

methods = json.loads(sys.argv[1])
one = {name: train(name, lam, Distribute.none) for name, lam in methods.items()}
two = {name: train(name, lam, Distribute.mirrored) for name, lam in methods.items()}
print(json.dumps({"one": one, "two": two, "odd": refusal(33, 96), "few": refusal(64, 51)}))
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


@pytest.mark.parametrize("method", METHODS)
def test_two_devices_train_as_one(trained: Any, method: str) -> None:
    """Weights after every epoch, losses and penalty on two devices are those of one, to 1e-5."""
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


@pytest.mark.parametrize(("case", "batch"), [("odd", 33), ("few", 51)])
def test_a_batch_that_cannot_be_shared_is_refused(trained: Any, case: str, batch: int) -> None:
    """An odd batch on two devices raises, also where too few examples make it odd."""
    assert (
        f"multiple of the number of devices that share it. Received: a batch of {batch} on "
        in (trained[case])
    )


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_mirrored_is_tensorflows(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """distribute=mirrored on another backend raises, before that backend is loaded."""
    monkeypatch.setenv("KERAS_BACKEND", backend)
    config = Config(backend=schema.Backend(backend), distribute=Distribute.mirrored)
    with pytest.raises(ConfigError, match=f"TensorFlow's. Received: backend={backend}"):
        device.set_up(config)
