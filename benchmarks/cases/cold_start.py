"""Times the phases of `python -m experiments.train` in a fresh process, from its start.

    python -m benchmarks.cases.cold_start FILE STARTED [overrides]

FILE gets the seconds of each phase as JSON. STARTED is the Unix time at which the process started.
The modules are imported one by one, so that each package has its own time; then the command runs.
"""

from __future__ import annotations

import sys
import time

PYTHON_IS_UP = time.time()

import atexit  # noqa: E402  # the time above must be that of Python alone
import importlib  # noqa: E402
import json  # noqa: E402
import runpy  # noqa: E402
from pathlib import Path  # noqa: E402

STORE = "l2keras_experiments.tracking.store"
# Each package after those that it needs; a shared module counts for the first of them.
IMPORTS = {
    "Hydra": ["hydra", "hydra.core.config_store", "hydra._internal.hydra"],
    "NumPy": ["numpy"],
    "TensorFlow and Keras": ["tensorflow", "keras"],  # each imports the other
    "MLflow": ["mlflow", "mlflow.store.tracking.sqlalchemy_store", "alembic.command"],
    "l2keras": ["l2keras", "l2keras.callbacks", "l2keras.splitting", "l2keras._sweep.sweep"],
    "the experiments": [
        "l2keras_experiments.commands.command_line", "l2keras_experiments.training.trial",
        "l2keras_experiments.sweeps.job", "l2keras_experiments.sweeps.completed",
        "l2keras_experiments.tracking.upload", STORE,
    ],
}  # fmt: skip


def main(file: Path, started: float, overrides: list[str]) -> None:
    seconds = {"starting Python": PYTHON_IS_UP - started}
    for package, modules in IMPORTS.items():
        start = time.perf_counter()
        if package == "MLflow":
            importlib.import_module(STORE).load_client()  # with its settings
        for module in modules:
            importlib.import_module(module)
        seconds[f"import {package}"] = time.perf_counter() - start
    run(file, seconds, overrides)


def run(file: Path, imports: dict[str, float], overrides: list[str]) -> None:
    """Runs the command, which ends the process; at exit the seconds are written."""
    from benchmarks.cases import phases

    clock = phases.Clock()

    def write() -> None:
        seconds = {"phases": {**imports, **clock.own}, "tracking": clock.tracking()}
        file.write_text(json.dumps({**seconds, "ending": time.time()}))

    atexit.register(write)
    sys.argv = ["experiments/train.py", *overrides]
    hydra = (sys.modules["hydra.main"], "_run_hydra", "Hydra: composing the config")
    with clock.watching([*phases.phases(), hydra]):
        runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
