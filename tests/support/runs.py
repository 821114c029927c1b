"""What the tests of the experiments ask of a store, and of a command that is mistaken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from omegaconf import DictConfig

from l2keras_experiments.config import paths

if TYPE_CHECKING:
    from l2keras_experiments.tracking.store import Store

Compose = Callable[..., DictConfig]

# A run that takes a second and still trains something.
SMALL = ["data.num_train=100", "model.width=8", "training.epochs=2"]


def runs_of(store: Store, parent: Any = None) -> list[Any]:
    """Every run of the store's study, newest first; of one parent only, if given."""
    found: list[Any] = store.client.search_runs([store.experiment_id])
    if parent is None:
        return found
    return [r for r in found if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]


def logged_model(store: Store, run: Any) -> Path:
    """The folder, beside a sqlite database, of the only model that a run has logged."""
    [output] = store.client.get_run(run.info.run_id).outputs.model_outputs
    model = store.client.get_logged_model(output.model_id)
    assert (model.source_run_id, str(model.status)) == (run.info.run_id, "READY")
    found = store.client.search_logged_models(
        [store.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
    )
    assert len(found) == 1
    return Path(urlsplit(model.artifact_location).path)


def mistake(module: str, *overrides: str) -> str:
    """What the command says to a mistake: in one line, status 2, before anything heavy loads."""
    program = (
        "import atexit, runpy, sys\n"
        "heavy = {'tensorflow', 'keras', 'mlflow', 'sklearn', 'matplotlib', 'torch', 'jax'}\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules))))\n"
        f"sys.argv = {[module, *overrides]!r}\n"
        f"runpy.run_module({module!r}, run_name='__main__')\n"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, cwd=paths.PROJECT)
    assert (result.returncode, result.stdout) == (2, "[]\n"), result.stderr
    assert result.stderr.count("\n") == 1
    return result.stderr
