"""A `PyDataset` and a `tf.data.Dataset` train a run on JAX and torch, too."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from l2keras_experiments.config import paths

PROGRAM = """
import keras
import numpy as np
import tensorflow as tf

from l2keras_experiments.config.schema import Config, DataConfig
from l2keras_experiments.data.streams import load_any
from l2keras_experiments.runtime import device
from l2keras_experiments.training.trial import run_trial

X = np.random.default_rng(0).normal(size=(12, 8)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return X[rows], Y[rows]


def py_dataset():
    return Batches(), Batches(), Batches()


def tf_data():
    return [tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)] * 3


weights = []
for name in ("py_dataset", "tf_data"):
    config = Config(data=DataConfig(target=f"__main__.{name}", num_outputs=2))
    config.training.batch_size, config.training.epochs = 4, 2
    device.set_up(config)
    result = run_trial(config, load_any(config.data, 0, "float32"))
    assert result.steps_per_epoch == 3
    assert set(result.test) == {"test_accuracy", "test_data_loss"}
    weights.append(np.concatenate([np.ravel(weight) for weight in result.model.get_weights()]))
np.testing.assert_allclose(*weights, rtol=1e-5, atol=1e-6)
print(keras.backend.backend())
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_both_reach_the_same_weights(backend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=paths.PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip() == backend, done.stderr[-2000:]
