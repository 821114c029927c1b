"""`python -m experiments.train ...` in a fresh process, from its start, phase by phase.

    python -m benchmarks.wholeway.command FILE STARTED [overrides]

FILE gets the seconds of each phase as JSON; STARTED is when the process was started, Unix time.
The modules are imported in turn, so that each package has its own time; then the command runs.
"""

from __future__ import annotations

import sys
import time

PYTHON_IS_UP = time.time()

import atexit  # noqa: E402  # the time above is to be that of Python alone
import importlib  # noqa: E402
import json  # noqa: E402
import runpy  # noqa: E402
from pathlib import Path  # noqa: E402

# In the order in which each has what it needs itself; what several share is the first one's.
IMPORTS = {
    "Hydra": ["hydra", "hydra.core.config_store", "hydra._internal.hydra"],
    "NumPy": ["numpy"],
    "TensorFlow and Keras": ["tensorflow", "keras"],  # each imports the other
    "MLflow": ["mlflow", "mlflow.store.tracking.sqlalchemy_store", "alembic.command"],
    "l2keras": ["l2keras", "l2keras.callbacks", "l2keras.splitting", "l2keras._sweep.sweep"],
    "the experiments": ["experiments.cli", "experiments.trial", "experiments.ledger",
                        "experiments.upload", "experiments.tracking"],
}  # fmt: skip


def main(file: Path, started: float, overrides: list[str]) -> None:
    found = {"starting Python": PYTHON_IS_UP - started}
    for package, modules in IMPORTS.items():
        start = time.perf_counter()
        if package == "MLflow":
            importlib.import_module("experiments.tracking").load_client()  # with its settings
        for module in modules:
            importlib.import_module(module)
        found[f"import {package}"] = time.perf_counter() - start
    run(file, started, found, overrides)


def run(file: Path, started: float, found: dict[str, float], overrides: list[str]) -> None:
    """Runs the command, which ends the process; what it took is written on the way out."""
    from benchmarks.wholeway import clock

    watched = clock.Clock()

    def tell() -> None:
        told = {"phases": {**found, **watched.own}, "tracking": watched.tracking()}
        file.write_text(json.dumps({**told, "ending": time.time()}))

    atexit.register(tell)
    sys.argv = ["experiments/train.py", *overrides]
    hydra = (sys.modules["hydra.main"], "_run_hydra", "Hydra: composing the config")
    with watched.watching([*clock.phases(), hydra]):
        runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
