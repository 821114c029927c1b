"""Jobs trained at once that are stopped, fail or are killed: the next launch goes on with them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from experiments import checkpoint, run, together, train, vectorized
from experiments.outcome import Outcome
from experiments.signals import Terminated
from experiments.tracking import Store
from hydra_plugins.l2keras_sweeps.vectorized import VectorizedLauncher
from l2keras._sweep import stacking
from l2keras._sweep.group import Group
from tests.support.groups import SMALL, histories, trials
from tests.support.runs import Compose


class Stop(Exception):
    """Ends a training in the middle."""


@pytest.fixture
def nodes(composed: Compose, uri: str) -> list[DictConfig]:
    return [composed("config", *SMALL, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1)]


@pytest.fixture
def whole(composed: Compose, uri: str) -> list[Outcome | None]:
    """The same runs in another study, never stopped."""
    same = [*SMALL, f"tracking.uri={uri}", "tracking.study=elsewhere"]
    return vectorized.train_at_once([composed("config", *same, f"seed={s}") for s in (0, 1)])


@pytest.fixture
def store(uri: str) -> Store:
    return Store(uri, "l2keras")


def launch(
    nodes: list[DictConfig], observe: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> list[Outcome | None]:
    """Trains; `observe` is told (run, epoch) before the metrics of an epoch are written."""
    recorder = vectorized._recorder

    def observed(*arguments: Any) -> Any:
        on_epoch = recorder(*arguments)

        def told(number: int, epoch: int, metrics: dict[str, float]) -> None:
            observe(number, epoch)
            on_epoch(number, epoch, metrics)

        return told

    with monkeypatch.context() as patch:
        patch.setattr(vectorized, "_recorder", observed)
        return vectorized.train_at_once(nodes)


def stopping(stop: Callable[[], None]) -> Callable[[int, int], None]:
    """Calls `stop` when the first run has done its second epoch."""

    def observe(number: int, epoch: int) -> None:
        if (number, epoch) == (0, 1):
            stop()

    return observe


def fail() -> None:
    raise Stop


def relaunch(nodes: list[DictConfig], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[int]]:
    """What comes of another launch, and the epochs that it trained."""
    trained: list[int] = []
    metrics = together.Together._metrics

    def counted(self: Any, runner: Any, state: Any) -> Any:
        trained.append(runner.epochs - 1)
        return metrics(self, runner, state)

    with monkeypatch.context() as patch:
        patch.setattr(together.Together, "_metrics", counted)
        return vectorized.train_at_once(nodes), trained


def check_end(store: Store, outcomes: Any, whole: Any) -> None:
    """Every run has come to the same end as one never stopped, and nothing is left of it."""
    for one, other in zip(outcomes, whole, strict=True):
        assert dict(one.metrics) == dict(other.metrics)
    for found in trials(store).values():
        assert found.info.status == "FINISHED"
        assert [step for step, _ in histories(store, found)["val_loss"]] == [0, 1, 2]
    assert not kept(store)


def kept(store: Store) -> list[Path]:
    return sorted((store.folder / "checkpoints").glob("*"))


def ids(store: Store) -> dict[str, str]:
    return {name: found.info.run_id for name, found in trials(store).items()}


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
@pytest.mark.parametrize("where", ["in an epoch", "at its end"])
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
            fit(group, [batches[0][:2]], pool)
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
        patch.setattr(vectorized, "_record", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            vectorized.train_at_once(nodes)
    assert {one.info.status for one in trials(store).values()} == {"KILLED"}
    outcomes, trained = relaunch(nodes, monkeypatch)
    assert not trained
    check_end(store, outcomes, whole)


def test_one_whose_state_cannot_be_read_fails_alone(
    nodes: list[DictConfig], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go on from theirs."""
    launch(nodes, stopping(fail), monkeypatch)
    broken = ids(store)["half_l2 lam=0.3 eta=0.2 seed=0"]
    (store.folder / "checkpoints" / f"{broken}.together.state").write_bytes(b"")
    outcomes, trained = relaunch(nodes, monkeypatch)
    assert [one.status for one in outcomes] == ["FAILED", "FINISHED"]
    assert trained == [2]


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


def test_one_that_goes_on_alone_is_no_longer_vectorized(
    nodes: list[DictConfig], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tags are those of a run alone; the state that the group kept of it is gone."""
    launch(nodes, stopping(fail), monkeypatch)
    assert train.train(nodes[0]).status == "FINISHED"
    alone, other = (trials(store)[f"half_l2 lam=0.3 eta=0.2 seed={s}"] for s in (0, 1))
    assert not [tag for tag in alone.data.tags if tag.startswith("vectorized")]
    assert [path.name for path in kept(store)] == [f"{other.info.run_id}.together.state"]


def test_the_last_of_a_group_goes_on_from_what_the_group_has_kept(
    nodes: list[DictConfig], store: Store, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the others are done, it is a group of one, and not begun anew."""
    launch(nodes, stopping(fail), monkeypatch)
    train.train(nodes[0])
    outcomes, trained = relaunch(nodes, monkeypatch)
    assert [one.status for one in outcomes] == ["SKIPPED", "FINISHED"]
    assert trained == [2]
    assert dict(outcomes[1].metrics) == pytest.approx(dict(whole[1].metrics), rel=1e-5)
    assert not kept(store)


def test_one_stopped_alone_goes_on_alone(
    composed: Compose, nodes: list[DictConfig], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state has no form for a group; the others are trained at once."""
    third = composed("config", *SMALL, "seed=2", f"tracking.uri={store.uri}")
    save = train.record_result

    def stop(*_: Any, **__: Any) -> None:
        raise Stop

    monkeypatch.setattr(train, "record_result", stop)
    with pytest.raises(Stop):
        train.train(nodes[0])
    monkeypatch.setattr(train, "record_result", save)
    outcomes, trained = relaunch([*nodes, third], monkeypatch)
    assert [one and one.status for one in outcomes] == [None, "FINISHED", "FINISHED"]
    assert len(trained) == 6


def test_where_only_one_fits_a_stopped_group_goes_on_one_by_one(
    nodes: list[DictConfig], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine with less memory: none is begun anew."""
    launch(nodes, stopping(fail), monkeypatch)
    monkeypatch.setattr(stacking, "group_size", lambda *_: (1, "one fits"))
    outcomes, trained = relaunch(nodes, monkeypatch)
    assert [one and one.status for one in outcomes] == ["FINISHED", "FINISHED"]
    assert trained == [2, 2]


def test_the_command_goes_on_with_the_last_of_a_group(
    nodes: list[DictConfig], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweeper hands the launcher what is not done: one job."""
    launch(nodes, stopping(fail), monkeypatch)
    train.train(nodes[0])
    launcher = VectorizedLauncher()
    launcher.composed = [nodes[1]]
    [outcome] = launcher._at_once()
    assert outcome is not None
    assert outcome.status == "FINISHED"
    assert trials(store)["half_l2 lam=0.3 eta=0.2 seed=1"].data.tags["vectorized_size"] == "1"


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
    composed: Compose, nodes: list[DictConfig], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size is that of the group that finishes it; a state kept alone is gone, too."""
    launch(nodes, stopping(fail), monkeypatch)
    for run_id in ids(store).values():
        alone = store.folder / "checkpoints" / f"{run_id}.state"
        alone.touch()
        os.utime(alone, (0, 0))  # older than what the group has kept
    third = composed("config", *SMALL, "seed=2", f"tracking.uri={store.uri}")
    vectorized.train_at_once([*nodes, third])
    tags = [found.data.tags for found in trials(store).values()]
    assert [found["vectorized_size"] for found in tags] == ["3"] * 3
    assert len({found["vectorized_group"] for found in tags}) == 1
    assert not kept(store)
