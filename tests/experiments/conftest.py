"""Fixtures for the experiments: configs composed as the commands do, and a store of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from experiments import cli, paths
from experiments.schema import CompareConfig, Config, TuneConfig
from experiments.tracking import Store
from tests.experiments import servers

Compose = Callable[..., DictConfig]

# A run that takes a second and still trains something.
SMALL = ["data.num_train=100", "model.width=8", "training.epochs=2"]


@pytest.fixture(scope="session")
def composed() -> Iterator[Compose]:
    """Composes `config` or `compare` with overrides, as the commands do."""
    cli.register("train", Config, "experiments.train")
    cli.register("compare", CompareConfig, "experiments.compare")
    cli.register("tune", TuneConfig, "experiments.tune")
    with initialize_config_dir(str(paths.CONFIGS), version_base="1.3"):
        yield lambda name, *overrides: compose(name, list(overrides))


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """A sqlite store that does not exist yet."""
    return f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}"


@pytest.fixture
def store(uri: str) -> Store:
    return Store(uri, "study")


@pytest.fixture(scope="module")
def shared_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def shared_store(shared_uri: str, request: pytest.FixtureRequest) -> Store:
    """A study for each test, in one store for the module: making one takes seconds."""
    return Store(shared_uri, request.node.name)


@pytest.fixture
def tracking_server(tmp_path: Path) -> Iterator[servers.TrackingServer]:
    """A real MLflow server on a store of its own, which a test may stop and start again."""
    folder = tmp_path / "server"
    folder.mkdir()
    with servers.tracking_server(folder) as server:
        yield server


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
