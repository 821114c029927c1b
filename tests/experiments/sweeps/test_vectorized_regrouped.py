"""Stopped jobs that go on in another group than they began in, or alone."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from omegaconf import DictConfig

from hydra_plugins.l2keras_sweeps.vectorized import VectorizedLauncher
from l2keras_experiments.sweeps import job
from l2keras_experiments.sweeps.vectorized import jobs, trainer
from l2keras_experiments.tracking import recording
from l2keras_experiments.tracking.store import Store
from l2keras_experiments.training import checkpoint
from tests.support.groups import (
    Stop,
    fail,
    ids,
    kept,
    launch,
    relaunch,
    stopping,
    trials,
)
from tests.support.runs import Compose

pytestmark = pytest.mark.usefixtures("eager_steps", "programs_once")


@pytest.fixture
def store(uri: str) -> Store:
    return Store(uri, "l2keras")


def test_one_that_goes_on_alone_is_no_longer_vectorized(
    nodes: list[DictConfig], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tags are those of a run alone; the state that the group kept of it is gone."""
    launch(nodes, stopping(fail), monkeypatch)
    assert job.train(nodes[0]).status == "FINISHED"
    alone, other = (trials(store)[f"HalfL2 lam=0.3 eta=0.2 seed={s}"] for s in (0, 1))
    assert not [tag for tag in alone.data.tags if tag.startswith("vectorized")]
    assert [path.name for path in kept(store)] == [f"{other.info.run_id}.stacked.state"]


def test_the_last_of_a_group_goes_on_from_what_the_group_has_kept(
    nodes: list[DictConfig], store: Store, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the others are done, it is a group of one, and not begun anew."""
    launch(nodes, stopping(fail), monkeypatch)
    job.train(nodes[0])
    outcomes, trained = relaunch(nodes, monkeypatch)
    assert [one.status for one in outcomes] == ["SKIPPED", "FINISHED"]
    assert trained == [2]
    assert dict(outcomes[1].metrics) == pytest.approx(dict(whole[1].metrics), rel=1e-5)
    assert not kept(store)


def test_one_stopped_alone_goes_on_alone(
    composed: Compose,
    group: list[str],
    nodes: list[DictConfig],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its state has no form for a group; the others are trained at once."""
    third = composed("config", *group, "seed=2", f"tracking.uri={store.uri}")
    save = recording.record_result

    def stop(*_: Any, **__: Any) -> None:
        raise Stop

    monkeypatch.setattr(recording, "record_result", stop)
    with pytest.raises(Stop):
        job.train(nodes[0])
    monkeypatch.setattr(recording, "record_result", save)
    outcomes, trained = relaunch([*nodes, third], monkeypatch)
    assert [one and one.status for one in outcomes] == [None, "FINISHED", "FINISHED"]
    assert len(trained) == 6


def test_where_only_one_fits_a_stopped_group_goes_on_one_by_one(
    nodes: list[DictConfig], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine with less memory: none is begun anew."""
    launch(nodes, stopping(fail), monkeypatch)
    monkeypatch.setattr(trainer, "group_size", lambda *_: (1, "one fits"))
    outcomes, trained = relaunch(nodes, monkeypatch)
    assert [one and one.status for one in outcomes] == ["FINISHED", "FINISHED"]
    assert trained == [2, 2]


def test_the_command_goes_on_with_the_last_of_a_group(
    nodes: list[DictConfig], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweeper hands the launcher what is not done: one job."""
    launch(nodes, stopping(fail), monkeypatch)
    job.train(nodes[0])
    launcher = VectorizedLauncher()
    launcher.composed = [nodes[1]]
    [outcome] = launcher._at_once()
    assert outcome is not None
    assert outcome.status == "FINISHED"
    assert trials(store)["HalfL2 lam=0.3 eta=0.2 seed=1"].data.tags["vectorized_size"] == "1"


def test_seconds_count_what_launches_before_have_spent(
    nodes: list[DictConfig], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(nodes, stopping(fail), monkeypatch)
    for path in kept(store):
        arrays, progress = checkpoint.read(path) or pytest.fail(f"{path} has nothing")
        assert progress.seconds > 0
        checkpoint.write(path, arrays, replace(progress, seconds=1000.0))
    outcomes, _ = relaunch(nodes, monkeypatch)
    assert all(1000 < one.seconds < 1100 for one in outcomes)
    for found in trials(store).values():
        assert found.data.metrics["seconds"] > 1000


def test_one_that_goes_on_in_another_group_has_its_tags(
    composed: Compose,
    group: list[str],
    nodes: list[DictConfig],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The size is that of the group that finishes it; a state kept alone is gone, too."""
    launch(nodes, stopping(fail), monkeypatch)
    for run_id in ids(store).values():
        alone = store.folder / "checkpoints" / f"{run_id}.state"
        alone.touch()
        os.utime(alone, (0, 0))  # older than what the group has kept
    third = composed("config", *group, "seed=2", f"tracking.uri={store.uri}")
    jobs.train_at_once([*nodes, third])
    tags = [found.data.tags for found in trials(store).values()]
    assert [found["vectorized_size"] for found in tags] == ["3"] * 3
    assert len({found["vectorized_group"] for found in tags}) == 1
    assert not kept(store)
