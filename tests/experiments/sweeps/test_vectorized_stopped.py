"""Jobs trained at once that are stopped, fail or are killed: the next launch goes on with them."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from omegaconf import DictConfig

from l2keras._sweep.group import Group
from l2keras_experiments.runtime.signals import Terminated
from l2keras_experiments.sweeps.vectorized import jobs
from l2keras_experiments.tracking import run
from l2keras_experiments.tracking.store import Store
from tests.support import factorial
from tests.support.groups import (
    check_end,
    fail,
    histories,
    ids,
    launch,
    relaunch,
    stopping,
    trials,
)

pytestmark = pytest.mark.usefixtures("eager_steps", "programs_once")


@pytest.fixture
def store(uri: str) -> Store:
    return Store(uri, "l2keras")


@pytest.mark.parametrize(
    ("number", "error", "where"),
    factorial.sample(
        [
            (signal.SIGINT, KeyboardInterrupt, "in an epoch"),
            (signal.SIGINT, KeyboardInterrupt, "at its end"),
            (signal.SIGTERM, Terminated, "at its end"),
            (signal.SIGTERM, Terminated, "in an epoch"),
        ],
        1,
    ),
)
def test_a_stopped_group_goes_on_from_its_last_whole_epoch(
    nodes: list[DictConfig],
    store: Store,
    whole: Any,
    number: int,
    error: type[BaseException],
    where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C and SIGTERM leave KILLED runs, all with two epochs of three, and none is lost."""

    def stop() -> None:
        signal.raise_signal(number)

    fit, calls = Group.fit, []

    def half(group: Group, batches: Any, pool: Any) -> Any:
        calls.append(len(batches))
        if len(calls) == 4:  # the rehearsal, two epochs, and half of the third
            fit(group, [batches[0][: len(batches[0]) // 2]], pool)
            stop()
        return fit(group, batches, pool)

    observe = stopping(stop)
    with monkeypatch.context() as patch:
        if where == "in an epoch":
            patch.setattr(Group, "fit", half)
            observe = stopping(lambda: None)
        with pytest.raises(error):
            launch(nodes, observe, monkeypatch)
    assert {one.info.status for one in trials(store).values()} == {"KILLED"}
    for one in trials(store).values():
        assert [step for step, _ in histories(store, one)["val_loss"]] == [0, 1]
    first = ids(store)
    outcomes, trained = relaunch(nodes, monkeypatch)
    assert trained == [2, 2]
    assert ids(store) == first
    check_end(store, outcomes, whole)


def test_a_group_stopped_when_it_has_trained_is_not_trained_again(
    nodes: list[DictConfig], store: Store, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the results are written leaves KILLED runs that have but that to do."""
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "_record", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            jobs.train_at_once(nodes)
    assert {one.info.status for one in trials(store).values()} == {"KILLED"}
    outcomes, trained = relaunch(nodes, monkeypatch)
    assert not trained
    check_end(store, outcomes, whole)


def test_one_whose_state_is_damaged_begins_anew(
    nodes: list[DictConfig], store: Store, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go on from theirs; all end as without the damage."""
    launch(nodes, stopping(fail), monkeypatch)
    broken = ids(store)["HalfL2 lam=0.3 eta=0.2 seed=0"]
    path = store.folder / "checkpoints" / f"{broken}.stacked.state"
    path.write_bytes(path.read_bytes()[:-1])
    outcomes, trained = relaunch(nodes, monkeypatch)
    assert sorted(trained) == [0, 1, 2, 2]
    for one, other in zip(outcomes, whole, strict=True):  # equal to rounding: other groups
        assert one.metrics == pytest.approx(other.metrics, rel=1e-6)


def test_a_group_that_fails_leaves_failed_runs_to_go_on_with(
    nodes: list[DictConfig], store: Store, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not trained again in the same launch; the next one goes on with each."""
    outcomes = launch(nodes, stopping(fail), monkeypatch)
    first = ids(store)
    assert [one and (one.status, one.failure) for one in outcomes] == [("FAILED", "Stop")] * 2
    assert {one.run_id for one in outcomes if one} == set(first.values())
    assert {one.info.status for one in trials(store).values()} == {"FAILED"}
    outcomes, trained = relaunch(nodes, monkeypatch)
    assert trained == [2, 2]
    assert ids(store) == first
    check_end(store, outcomes, whole)


def test_a_killed_group_has_no_holes_in_its_metrics(
    nodes: list[DictConfig], store: Store, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the checkpoint knows and the store does not, for SIGKILL came before, is written."""
    with monkeypatch.context() as patch:
        patch.setattr(run.Run, "log_metrics", lambda *_, **__: None)
        launch(nodes, stopping(fail), monkeypatch)
    assert not any(one.data.metrics for one in trials(store).values())
    outcomes, _ = relaunch(nodes, monkeypatch)
    check_end(store, outcomes, whole)
