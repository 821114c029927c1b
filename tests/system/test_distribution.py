"""Data parallel training on TensorFlow: decay and penalty count once, not once a replica."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.models import BACKEND

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

FORMS = {
    "decoupled": {},
    "coupled": {"coupling": "coupled"},
    "independent": {"coupling": "independent"},
    "cautious": {"cautious": True},
    "stable": {"stable": True},
    "toward": {"toward": "init"},
    "fused": {"fused": True},  # a cluster on one device, plain operations on two
}

def train(strategy, method):
    regularizer = HalfL2(0.25) if method == "half_l2" else None
    with strategy.scope():
        layer = keras.layers.Dense(2, use_bias=False, kernel_regularizer=regularizer)
        model = keras.Sequential([keras.Input((3,)), layer])
        adam = method in ("stable", "none, adam")
        model.compile(keras.optimizers.Adam(0.25) if adam else keras.optimizers.SGD(0.25), "mse")
    model.set_weights([start])
    callbacks = [WeightDecay(0.25, **FORMS[method])] if method in FORMS else []
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    model.fit(data.with_options(options), epochs=4, verbose=0, callbacks=callbacks)
    return np.asarray(model.get_weights()[0], "float64")

apart, undecayed = {}, {}
for method in ("none", "none, adam", "half_l2", *FORMS):
    one = train(tf.distribute.get_strategy(), method)
    two = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), method)
    apart[method] = float(np.linalg.norm(one - two) / np.linalg.norm(one))
    if "none" in method:
        undecayed["adam" in method] = one
    else:
        difference = one - undecayed[method == "stable"]
        apart[method + " acts"] = float(np.linalg.norm(difference))
print(json.dumps(apart))
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_two_replicas_equal_one_device() -> None:
    """On two replicas every form of decay gives the weights of one device, to 1e-5."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    apart = json.loads(result.stdout.splitlines()[-1])
    forms = ("decoupled", "coupled", "independent", "cautious", "stable", "toward", "fused")
    for method in ("none", "none, adam", "half_l2", *forms):
        assert apart[method] < 1e-5, (method, apart)
        assert "none" in method or apart[f"{method} acts"] > 0.01, (method, apart)
