"""What the tests of the experiments ask of a store, and of a command that is mistaken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from experiments import paths

if TYPE_CHECKING:
    from experiments.tracking import Store

Compose = Callable[..., DictConfig]

# A run that takes a second and still trains something.
SMALL = ["data.num_train=100", "model.width=8", "training.epochs=2"]


def runs_of(store: Store, parent: Any = None) -> list[Any]:
    """Every run of the store's study, newest first; of one parent only, if given."""
    found: list[Any] = store.client.search_runs([store.experiment_id])
    if parent is None:
        return found
    return [r for r in found if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]


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
