"""A logged model, served by MLflow in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

import l2keras
from l2keras_experiments.config import paths
from l2keras_experiments.tracking.store import Store
from tests.support.runs import logged_model, runs_of

X = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")


def test_a_logged_model_is_served(tmp_path: Path) -> None:
    """MLflow alone loads it, in a process that has not imported l2keras, and predicts the same.

    So does the server of `mlflow models serve`, and, once l2keras is there, MLflow's Keras loader.
    """
    layer = keras.layers.Dense(2, kernel_regularizer=l2keras.HalfL2(0.1))
    model = keras.Sequential([keras.Input((3,)), layer])
    store = Store(f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}", "study")
    with store.run("one") as run:
        run.log_model(model, X)
    folder = logged_model(store, runs_of(store)[0])
    np.save(tmp_path / "x.npy", X)
    program = (
        "import json, sys, mlflow.keras, mlflow.pyfunc, numpy as np\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "np.save('y.npy', model.predict(np.load('x.npy')))\n"
        "from mlflow.pyfunc import scoring_server\n"
        "asked = json.dumps({'inputs': np.load('x.npy').tolist()})\n"
        "answer = scoring_server.invocations(\n"
        "    asked, 'application/json', model, model.metadata.get_input_schema())\n"
        "assert answer.status == 200, answer.response\n"
        "np.save('served.npy', json.loads(answer.response)['predictions'])\n"
        "loaded = mlflow.keras.load_model(sys.argv[1])\n"
        "np.save('keras.npy', loaded.predict(np.load('x.npy'), verbose=0))\n"
        "print(model.metadata.signature.inputs, model.metadata.signature.outputs)\n"
        "print('l2keras_experiments' in sys.modules)\n"
    )
    shutil.copytree(paths.PROJECT / "l2keras", tmp_path / "l2keras")  # the library, nothing else
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = model.predict(X, verbose=0)
    for name in ("y", "served", "keras"):
        found = np.load(tmp_path / f"{name}.npy")
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    *signature, imported = done.stdout.splitlines()[-2:]
    assert "Tensor('float32', (-1, 3))" in signature[0]
    assert "Tensor('float32', (-1, 2))" in signature[0]
    assert imported == "False"
    requirements = (folder / "requirements.txt").read_text().split()
    assert {one.partition("==")[0] for one in requirements} == {
        "mlflow", "keras", "l2keras", "numpy", keras.backend.backend()
    }  # fmt: skip
