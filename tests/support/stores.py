"""Fixtures for the experiments: configs composed as the commands do, and MLflow stores.

MLflow takes seconds to create the tables of a sqlite store. One store is created for the whole test
run, and every test gets a copy of its file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from l2keras_experiments.tracking.database import create

if TYPE_CHECKING:
    from l2keras_experiments.tracking.store import Store
    from tests.support.runs import Compose
    from tests.support.servers import TrackingServer


@pytest.fixture(scope="session")
def composed(request: pytest.FixtureRequest) -> Iterator[Compose]:
    """Composes `config`, `compare` or `tune` with overrides, as the commands do.

    In the fast tier Hydra composes once for each choice of options.
    """
    from hydra import compose, initialize_config_dir

    from l2keras_experiments.commands import command_line
    from l2keras_experiments.config import paths
    from l2keras_experiments.config.schema import CompareConfig, Config, TuneConfig
    from tests.support.composing import Composer

    command_line.register("train", Config, "experiments.train")
    command_line.register("compare", CompareConfig, "experiments.compare")
    command_line.register("tune", TuneConfig, "experiments.tune")
    with initialize_config_dir(str(paths.CONFIGS), version_base="1.3"):
        if request.config.getoption("full"):
            yield lambda name, *overrides: compose(name, list(overrides))
        else:
            yield Composer()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store that has its tables and no study of ours, shared by all workers."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of the whole test run
    folder /= "empty_store"
    folder.mkdir(exist_ok=True)
    database = folder / "mlflow.db"
    with FileLock(folder / "lock"):
        from l2keras_experiments.tracking.store import load_client

        client = load_client()
        create(database, lambda uri: client(tracking_uri=uri).search_experiments(max_results=1))
    return database


def _copy(database: Path, folder: Path) -> str:
    folder.mkdir(parents=True)
    return f"sqlite:///{shutil.copy(database, folder / 'mlflow.db')}"


@pytest.fixture
def missing_uri(tmp_path: Path) -> str:
    """The address of a sqlite store that does not exist yet."""
    return f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}"


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    """The address of an empty sqlite store."""
    return _copy(empty_database, tmp_path / "store")


@pytest.fixture
def store(uri: str) -> Store:
    """The study "study" in a store of its own."""
    from l2keras_experiments.tracking.store import Store

    return Store(uri, "study")


@pytest.fixture(scope="module")
def shared_uri(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> str:
    """The address of one empty store for the tests of a module."""
    return _copy(empty_database, tmp_path_factory.mktemp("module") / "store")


@pytest.fixture
def shared_store(shared_uri: str, request: pytest.FixtureRequest) -> Store:
    """A study for each test, in one store for the module."""
    from l2keras_experiments.tracking.store import Store

    return Store(shared_uri, request.node.name)


@pytest.fixture
def tracking_server(tmp_path: Path) -> Iterator[TrackingServer]:
    """A real MLflow server on a store of its own, which a test may stop and start again."""
    from tests.support import servers

    folder = tmp_path / "server"
    folder.mkdir()
    with servers.tracking_server(folder) as server:
        yield server
