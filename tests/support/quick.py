"""Fixtures that make trainings cheap where the form of a step is not what a test is about.

With `--full` they do nothing: every training traces and compiles what it trains with.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from l2keras_experiments.config.schema import OptimizerConfig
    from l2keras_experiments.runtime.outcome import Outcome
    from tests.support.runs import Compose


def pytest_collection_finish(session: pytest.Session) -> None:
    """Loads the backend, MLflow and matplotlib before the first test: they are not its time."""
    if any("eager_steps" in getattr(item, "fixturenames", ()) for item in session.items):
        import matplotlib.figure  # noqa: F401
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

        from l2keras_experiments.tracking.store import load_client
        from l2keras_experiments.training import trial  # noqa: F401

        load_client()


@pytest.fixture(scope="module")
def eager_steps(request: pytest.FixtureRequest) -> Iterator[None]:
    """Training runs of the experiments step operation by operation: tracing takes longer."""
    if request.config.getoption("full"):
        yield
        return
    from l2keras_experiments.training import trial

    compiled = trial.compiled_model

    def eager(*arguments: Any, **options: Any) -> Any:
        model = compiled(*arguments, **options)
        model.run_eagerly = not model.jit_compile
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "compiled_model", eager)
        yield


@pytest.fixture(scope="session")
def group(request: pytest.FixtureRequest) -> list[str]:
    """The overrides of runs that are trained at once; with `--full` they train a network."""
    from tests.support import groups

    return groups.SMALL if request.config.getoption("full") else groups.TINY


@pytest.fixture(scope="module")
def programs_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Launches of the same runs share their programs, as the chunks of one launch do."""
    if request.config.getoption("full"):
        yield
        return
    from l2keras_experiments.sweeps.vectorized import trainer
    from l2keras_experiments.sweeps.vectorized.trainer import GroupTrainer
    from l2keras_experiments.training import optimizers

    make, build = GroupTrainer._make_group, optimizers.build_schedule
    schedules: dict[Hashable, Any] = {}  # a program knows them by identity
    made: dict[Hashable, Any] = {}

    def shared(self: GroupTrainer, size: int) -> Any:
        configs = [vars(stacked.config).copy() for stacked in self.runs]
        for config in configs:
            del config["tracking"], config["rerun"]  # what changes no program
        key = size, repr(configs)
        if key not in made:
            made[key] = make(self, size)
        return made[key]

    def schedule(config: OptimizerConfig, num_steps: int) -> Any:
        key = repr(config), num_steps
        if key not in schedules:
            schedules[key] = build(config, num_steps)
        return schedules[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GroupTrainer, "_make_group", shared)
        patch.setattr(trainer, "build_schedule", schedule)
        yield


@pytest.fixture
def nodes(composed: Compose, uri: str, group: list[str]) -> list[DictConfig]:
    """Two runs that can be trained at once."""
    return [composed("config", *group, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1)]


@pytest.fixture(scope="module")
def whole(
    composed: Compose, shared_uri: str, group: list[str], programs_once: None
) -> list[Outcome | None]:
    """What comes of `nodes` in another store, never stopped."""
    from l2keras_experiments.sweeps.vectorized import jobs

    same = [*group, f"tracking.uri={shared_uri}"]
    return jobs.train_at_once([composed("config", *same, f"seed={s}") for s in (0, 1)])
