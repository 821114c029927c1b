"""Data parallel training on TensorFlow: decay and penalty count once, not once a replica."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import BACKEND

# Logical devices must exist before TensorFlow starts: a process of its own, for all cases.
PROGRAM = """
import json
import keras, numpy as np, tensorflow as tf
from l2keras import HalfL2, WeightDecay

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
random = np.random.default_rng(0)
x, y = random.normal(size=(64, 3)).astype("float32"), random.normal(size=(64, 2)).astype("float32")
start = random.normal(size=(3, 2))

def train(strategy, method):
    regularizer = HalfL2(0.25) if method == "half_l2" else None
    decays = {"decoupled", "coupled", "independent"}
    with strategy.scope():
        layer = keras.layers.Dense(2, use_bias=False, kernel_regularizer=regularizer)
        model = keras.Sequential([keras.Input((3,)), layer])
        model.compile(keras.optimizers.SGD(0.25), "mse")
    model.set_weights([start])
    callbacks = [WeightDecay(0.25, coupling=method)] if method in decays else []
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    model.fit(data.with_options(options), epochs=4, verbose=0, callbacks=callbacks)
    return np.asarray(model.get_weights()[0], "float64")

apart = {}
for method in ("none", "half_l2", "decoupled", "coupled", "independent"):
    one = train(tf.distribute.get_strategy(), method)
    two = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), method)
    apart[method] = float(np.linalg.norm(one - two) / np.linalg.norm(one))
    if method == "none":
        undecayed = one
    else:
        apart[method + " acts"] = float(np.linalg.norm(one - undecayed))
print(json.dumps(apart))
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_two_replicas_equal_one_device() -> None:
    """On two replicas every form of decay gives the weights of one device, to 1e-5."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert result.returncode == 0, result.stderr[-2000:]
    apart = json.loads(result.stdout.splitlines()[-1])
    for method in ("none", "half_l2", "decoupled", "coupled", "independent"):
        assert apart[method] < 1e-5, method
        assert method == "none" or apart[f"{method} acts"] > 0.01, method
