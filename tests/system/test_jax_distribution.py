"""keras.distribution on JAX: decay and penalty on a mesh of CPU devices equal one device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.support import ROOT

# The devices must exist before JAX starts: a process of its own, for all cases.
FITS = """
import json
import keras, numpy as np
from l2keras import HalfL2, PenaltySplit, WeightDecay, attach, detach

random = np.random.default_rng(0)
x, y = random.normal(size=(32, 3)), random.normal(size=(32, 4))
start = random.normal(size=(3, 4))


def one():
    return None


def data_parallel():
    return keras.distribution.DataParallel()


def model_parallel():
    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"))
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*kernel"] = (None, "model")
    return keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")


class InMidEpoch(keras.callbacks.Callback):
    def __init__(self, act):
        super().__init__()
        self.act, self.done = act, False

    def on_train_batch_end(self, batch, logs=None):
        if not self.done:
            self.done = True
            self.act(self.model)


def halve(model):
    decay.lam = 0.125


def penalize(model):
    attach(model, HalfL2(0.5))


CASES = {
    "none": lambda: [],
    "decoupled": lambda: [WeightDecay(0.25)],
    "coupled": lambda: [WeightDecay(0.25, coupling="coupled")],
    "independent": lambda: [WeightDecay(0.25, coupling="independent")],
    "toward": lambda: [WeightDecay(0.25, toward="init")],
    "cautious": lambda: [WeightDecay(0.25, cautious=True)],
    "split": lambda: [WeightDecay(0.25), PenaltySplit()],
    "attached in mid-epoch": lambda: [WeightDecay(0.25), InMidEpoch(penalize)],
    "lam set in mid-epoch": lambda: [decay, InMidEpoch(halve)],
}
found = {}
for make in (one, data_parallel, model_parallel):
    keras.distribution.set_distribution(make())
    for name, callbacks in CASES.items():
        decay = WeightDecay(0.25)
        layer = keras.layers.Dense(4, use_bias=False, name="dense")
        model = keras.Sequential([keras.Input((3,)), layer])
        model.compile(keras.optimizers.SGD(0.25), "mse")
        model.set_weights([start])
        used = callbacks()
        for fit in range(2):  # the second reuses the compiled step
            model.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0, callbacks=used)
        found.setdefault(make.__name__, {})[name] = model.get_weights()[0].tolist()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def weights() -> Any:
    """The weights after two fits, by the kind of mesh and the case."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }
    result = subprocess.run(
        [sys.executable, "-c", FITS], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("mesh", ["data_parallel", "model_parallel"])
def test_a_mesh_equals_one_device(weights: Any, mesh: str) -> None:
    """Every form of decay gives the weights of one device, to 1e-5, and acts."""
    undecayed = np.asarray(weights["one"]["none"])
    for name, expected in weights["one"].items():
        np.testing.assert_allclose(weights[mesh][name], expected, rtol=1e-5, atol=1e-6)
        assert name == "none" or np.max(np.abs(np.asarray(expected) - undecayed)) > 0.01, name


def test_what_changes_in_mid_epoch_counts(weights: Any) -> None:
    """An attached penalty and a smaller lam lie on either side of the decay alone."""
    size = {name: float(np.linalg.norm(value)) for name, value in weights["one"].items()}
    assert size["attached in mid-epoch"] < 0.99 * size["decoupled"]
    assert size["lam set in mid-epoch"] > 1.01 * size["decoupled"]
