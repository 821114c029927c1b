"""Data parallel training on TensorFlow: decay and penalty count once, not once a replica."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.support import ROOT
from tests.support.models import BACKEND

# Logical devices must exist before TensorFlow starts: a process of its own, for all cases.
FITS = """
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


LOOPS = """
import json
import keras, numpy as np, tensorflow as tf
from l2keras import HalfL2, PenaltySplit, model_penalty

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
random = np.random.default_rng(0)
x, y = random.normal(size=(32, 3)).astype("float32"), random.normal(size=(32, 2)).astype("float32")
start = random.normal(size=(3, 2))
options = tf.data.Options()
options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).with_options(options)

def penalized(model, how):
    return model_penalty(model) if how == "model_penalty" else tf.add_n(model.losses)

class OwnStep(keras.Sequential):
    how = ""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            squares = tf.reduce_mean((self(x, training=True) - y) ** 2, axis=-1)
            loss = tf.nn.compute_average_loss(squares) + penalized(self, self.how)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"objective": loss}

def make(strategy, layers=OwnStep):
    with strategy.scope():
        layer = keras.layers.Dense(2, use_bias=False, kernel_regularizer=HalfL2(0.5))
        model = layers([keras.Input((3,)), layer])
        model.compile(keras.optimizers.SGD(0.25), "mse")
    model.set_weights([start])
    return model

def own_step(strategy, how):
    model = make(strategy)
    model.how = how
    model.fit(data, epochs=2, verbose=0)
    return model.get_weights()[0].tolist()

def own_loop(strategy, how):
    model = make(strategy)

    @tf.function
    def step(batch):
        def replica(x, y):
            with tf.GradientTape() as tape:
                squares = tf.reduce_mean((model(x, training=True) - y) ** 2, axis=-1)
                loss = tf.nn.compute_average_loss(squares) + penalized(model, how)
            gradients = tape.gradient(loss, model.trainable_variables)
            model.optimizer.apply(gradients, model.trainable_variables)
        strategy.run(replica, args=batch)

    for _ in range(2):
        for batch in strategy.experimental_distribute_dataset(data):
            step(batch)
    return model.get_weights()[0].tolist()

def split(strategy, how):
    model = make(strategy, keras.Sequential)
    logs = model.fit(
        data, epochs=2, verbose=0, validation_data=data, callbacks=[PenaltySplit()]
    ).history
    return [logs[key] for key in sorted(logs)]

found = {}
one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for name, run in (("step", own_step), ("loop", own_loop), ("split", split)):
    found[name] = [run(one, "model_penalty"), run(two, "model_penalty")]
found["add_n"] = own_step(two, "add_n")
print(json.dumps(found))
"""


def printed(program: str) -> Any:
    """The last line that a process of its own prints, as JSON."""
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_two_replicas_equal_one_device() -> None:
    """On two replicas every form of decay gives the weights of one device, to 1e-5."""
    apart = printed(FITS)
    forms = ("decoupled", "coupled", "independent", "cautious", "stable", "toward", "fused")
    for method in ("none", "none, adam", "half_l2", *forms):
        assert apart[method] < 1e-5, (method, apart)
        assert "none" in method or apart[f"{method} acts"] > 0.01, (method, apart)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_two_replicas_of_a_custom_loop_equal_one_device() -> None:
    """The penalty counts once in a train_step, a loop and the logs; summed losses count twice."""
    found = printed(LOOPS)
    for name in ("step", "loop", "split"):
        one, two = map(np.asarray, found[name])
        assert two == pytest.approx(one, rel=1e-5), name
    data_loss, loss, penalty = np.asarray(found["split"][1])[:3]
    assert data_loss + penalty == pytest.approx(loss, rel=1e-6)
    assert penalty[0] > 0.1
    assert np.asarray(found["step"][0]) == pytest.approx(np.asarray(found["loop"][0]), rel=1e-5)
    assert np.max(np.abs(np.asarray(found["add_n"]) - found["step"][0])) > 0.01
