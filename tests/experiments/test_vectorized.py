"""Jobs trained at once: each is the run that it would be alone."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from experiments import cli, identity, ledger, paths, together, train, vectorized
from experiments.outbox import Rejected
from experiments.run import Run
from experiments.tracking import Store
from l2keras._sweep import memory, stacking
from l2keras._sweep.group import Group
from l2keras._sweep.refusals import NotVectorizedError
from tests.support import servers
from tests.support.groups import SMALL, histories, trials
from tests.support.runs import Compose, runs_of

# What differs, though the run is the same: where it is recorded, and how long it took.
ELSEWHERE = ("tracking.",)
METHODS = ["none", "half_l2", "coupled", "decoupled", "independent"]


@pytest.fixture(scope="module")
def points() -> list[list[str]]:
    """Every method, two seeds, two learning rates."""
    return [
        [f"regularization={method}", f"seed={seed}", f"optimizer.learning_rate={rate}"]
        for method, seed, rate in zip(
            [*METHODS, "half_l2"], [0, 1, 0, 1, 0, 1], [0.2, 0.2, 0.05] * 2, strict=True
        )
    ]


def artifacts(store: Store, run: Any) -> set[str]:
    return {found.path for found in store.client.list_artifacts(run.info.run_id)}


@pytest.mark.parametrize(
    ("optimizer", "bytes_that_pay", "number"),
    [(["optimizer=momentum"], stacking.BYTES_THAT_PAY, 6), (["optimizer=adam"], 0.0, 5)],
    ids=["momentum", "adam, compiled by XLA, in two stacks with a seat left over"],
)
def test_each_is_the_run_that_it_is_alone(
    composed: Compose,
    uri: str,
    points: list[list[str]],
    optimizer: list[str],
    bytes_that_pay: float,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same metrics in every epoch to 1e-5, the same parameters, tags and artifacts."""
    monkeypatch.setattr(stacking, "BYTES_THAT_PAY", bytes_that_pay)
    monkeypatch.setattr(memory, "cores", lambda: 2)
    points = points[:number]
    seats, load = set(), Group.load

    def noted(self: Group, *args: Any) -> None:
        seats.add(self.size)
        load(self, *args)

    monkeypatch.setattr(Group, "load", noted)
    nodes = {
        study: [
            composed("config", *optimizer, *SMALL, *point, f"tracking.uri={uri}",
                     f"tracking.study={study}")
            for point in points
        ]
        for study in ("alone", "at_once")
    }  # fmt: skip
    for node in nodes["alone"]:
        train.train(node)
    outcomes = vectorized.train_at_once(nodes["at_once"])
    assert [outcome.status for outcome in outcomes if outcome] == ["FINISHED"] * len(points)
    assert seats == {6}
    alone_store, store = Store(uri, "alone"), Store(uri, "at_once")
    alone, at_once = trials(alone_store), trials(store)
    assert alone.keys() == at_once.keys()
    for name, run in at_once.items():
        other = alone[name]
        compare_metrics(histories(store, run), histories(alone_store, other))
        params = [
            {k: v for k, v in one.data.params.items() if not k.startswith(ELSEWHERE)}
            for one in (run, other)
        ]
        assert params[0] == params[1]
        assert artifacts(store, run) == artifacts(alone_store, other)
        assert run.data.tags["decay_digest"] == other.data.tags["decay_digest"]
        assert run.data.tags["config_hash"] == other.data.tags["config_hash"]
        new = run.data.tags.keys() - other.data.tags.keys()
        assert new == {"vectorized", "vectorized_group", "vectorized_size"}


def compare_metrics(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    for key in found.keys() - {"seconds"}:
        steps, values = zip(*found[key], strict=True)
        expected_steps, expected_values = zip(*expected[key], strict=True)
        assert steps == expected_steps
        np.testing.assert_allclose(values, expected_values, rtol=2e-5, atol=1e-5, err_msg=key)


def test_the_model_that_is_kept_is_the_one_alone(composed: Compose, uri: str) -> None:
    """model.keras holds the weights, the regularizers and the state of the optimizer."""
    import keras

    same = [*SMALL, "optimizer=adam", "regularization=half_l2", f"tracking.uri={uri}"]
    loaded = {}
    for study in ("alone", "at_once"):
        nodes = [composed("config", *same, f"seed={s}", f"tracking.study={study}") for s in (0, 1)]
        if study == "alone":
            train.train(nodes[1])
        else:
            vectorized.train_at_once(nodes)
        store = Store(uri, study)
        run = trials(store)["half_l2 lam=0.3 eta=0.001 seed=1"]
        path = store.client.download_artifacts(run.info.run_id, "model.keras")
        loaded[study] = keras.models.load_model(path)
    for a, b in zip(loaded["alone"].variables, loaded["at_once"].variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)
    optimizers = [model.optimizer.variables for model in loaded.values()]
    for a, b in zip(*optimizers, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)
    assert loaded["at_once"].layers[2].kernel_regularizer.lam == 0.3


def test_one_that_diverges_fails_alone(composed: Compose, uri: str) -> None:
    """A loss that is no number ends its run as FAILED; the others are as without it."""
    nodes = {
        study: [
            composed("config", *SMALL, "regularization=half_l2", f"regularization.lam={lam}",
                     f"tracking.uri={uri}", f"tracking.study={study}")
            for lam in lams
        ]
        for study, lams in {"with": (0.1, 1e9, 0.3), "without": (0.1, 0.3)}.items()
    }  # fmt: skip
    outcomes = vectorized.train_at_once(nodes["with"])
    assert [one.status for one in outcomes if one] == ["FINISHED", "FAILED", "FINISHED"]
    assert outcomes[1] is not None
    assert "DivergedError" in (outcomes[1].failure or "")
    others = vectorized.train_at_once(nodes["without"])
    for one, other in zip([outcomes[0], outcomes[2]], others, strict=True):
        assert one is not None
        assert other is not None
        assert one.metrics["val_loss"] == pytest.approx(other.metrics["val_loss"], rel=1e-6)
    statuses = {name: run.info.status for name, run in trials(Store(uri, "with")).items()}
    assert sorted(statuses.values()) == ["FAILED", "FINISHED", "FINISHED"]


def test_what_is_done_is_skipped(composed: Compose, uri: str) -> None:
    """Launched again nothing is trained; with one more, that one has to be trained alone."""
    nodes = [composed("config", *SMALL, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1, 2)]
    vectorized.train_at_once(nodes[:2])
    again = vectorized.train_at_once(nodes)
    assert [one and one.status for one in again] == ["SKIPPED", "SKIPPED", None]
    assert len(trials(Store(uri, "l2keras"))) == 2


def test_one_that_another_process_holds_is_left_to_it(composed: Compose, uri: str) -> None:
    """The others are trained; who is at work on it is told."""
    nodes = [composed("config", *SMALL, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1, 2)]
    store = Store(uri, "l2keras")
    held = identity.config_hash(cli.flatten(nodes[1]))
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store.folder), ledger.claim_name(store, held)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=paths.PROJECT,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        holder.stdout.readline()
        outcomes = vectorized.train_at_once(nodes)
        holder.kill()
    assert [one and one.status for one in outcomes] == ["FINISHED", "RUNNING", "FINISHED"]
    assert len(trials(store)) == 2


HOLDER = """
import sys
from pathlib import Path
from experiments import identity
with identity.claim(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_what_another_launch_finishes_meanwhile_is_not_trained_twice(
    composed: Compose, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked up again once it is claimed; if it is done, the claim is given up."""
    nodes = [composed("config", *SMALL, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1, 2)]
    claim = vectorized._claim

    def late(store: Store, seat: Any) -> bool:
        if seat.config.seed == 1:
            train.train(nodes[1])
        return claim(store, seat)

    store = Store(uri, "l2keras")
    name = ledger.claim_name(store, identity.config_hash(cli.flatten(nodes[1])))
    start = vectorized._start

    def unclaimed(*arguments: Any) -> None:
        assert identity.is_claimed(store.folder, name) is None
        start(*arguments)

    monkeypatch.setattr(vectorized, "_claim", late)
    monkeypatch.setattr(vectorized, "_start", unclaimed)
    outcomes = vectorized.train_at_once(nodes)
    assert [one and one.status for one in outcomes] == ["FINISHED", "SKIPPED", "FINISHED"]
    found = [run for run in runs_of(store) if run.data.tags["kind"] == "trial"]
    assert sorted(run.data.tags.get("vectorized_size", "") for run in found) == ["", "2", "2"]


def test_a_store_that_is_away_is_waited_for(
    composed: Compose, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not answer at first is asked again."""
    from mlflow.exceptions import MlflowException

    answer, asked = Store._get_or_create, []

    def once_away(store: Store, study: str) -> str:
        asked.append(study)
        if len(asked) == 1:
            raise MlflowException("away")
        return answer(store, study)

    monkeypatch.setattr(Store, "_get_or_create", once_away)
    nodes = [composed("config", *SMALL, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1)]
    outcomes = vectorized.train_at_once(nodes)
    assert [one and one.status for one in outcomes] == ["FINISHED", "FINISHED"]


def test_a_store_that_stays_away_leaves_the_jobs_to_be_trained_alone(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a job alone does about it, it does for each."""
    monkeypatch.setattr("experiments.run.PATIENCE", 0.1)
    away = f"tracking.uri=http://{servers.HOST}:{servers.free_port()}"
    nodes = [composed("config", *SMALL, f"seed={s}", away) for s in (0, 1)]
    assert vectorized.train_at_once(nodes) == [None, None]


def test_what_cannot_be_trained_at_once_opens_no_run(
    composed: Compose, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model without a stacked form, in training or evaluation, is found out before."""

    def refuse(*_: Any) -> Any:
        raise NotVectorizedError("the layer odd has no form over stacked weights")

    nodes = [composed("config", *SMALL, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1)]
    monkeypatch.setattr(Group, "evaluate", refuse)
    assert vectorized.train_at_once(nodes) == [None, None]
    assert not trials(Store(uri, "l2keras"))


def test_one_whose_record_is_refused_fails_alone(
    composed: Compose, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store has against one run does not end the others."""
    write, refused = Run.log_metrics, set[str]()

    def log(one: Run, metrics: dict[str, float], step: int = 0) -> None:
        if step == 1 and refused <= {one.id}:
            refused.add(one.id)
            raise Rejected("the store refuses it")
        write(one, metrics, step)

    monkeypatch.setattr(Run, "log_metrics", log)
    nodes = [composed("config", *SMALL, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1, 2)]
    outcomes = vectorized.train_at_once(nodes)
    assert [one and one.status for one in outcomes] == ["FAILED", "FINISHED", "FINISHED"]
    assert {one.run_id for one in outcomes if one and one.failed} == refused


def test_where_the_store_refuses_all_none_is_trained_to_its_end(
    composed: Compose, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing left to train for."""
    epochs = []
    end = together.Together._end_epoch

    def counted(*arguments: Any) -> None:
        epochs.append(1)
        end(*arguments)

    def refuse(*_: Any, **__: Any) -> None:
        raise Rejected("the store refuses it")

    monkeypatch.setattr(together.Together, "_end_epoch", counted)
    monkeypatch.setattr(Run, "log_metrics", refuse)
    nodes = [composed("config", *SMALL, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1)]
    outcomes = vectorized.train_at_once(nodes)
    assert [one and one.status for one in outcomes] == ["FAILED", "FAILED"]
    assert len(epochs) == 1


def test_where_stacking_gains_nothing_they_are_trained_alone(
    composed: Compose, uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No run is opened, and why is told."""
    monkeypatch.setattr(stacking, "most_at_once", lambda model: (1, ", as it is slower"))
    nodes = [composed("config", *SMALL, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1)]
    assert vectorized.train_at_once(nodes) == [None, None]
    assert "2 members, 1 at once, as it is slower" in capsys.readouterr().err
    assert not trials(Store(uri, "l2keras"))


def test_the_learning_rate_under_accumulation_is_the_one_alone(composed: Compose, uri: str) -> None:
    """That of the last update, where an epoch of 4 batches ends between two updates of 3."""
    cosine = [0.1 * (1 + math.cos(math.pi * step / 12)) for step in (2, 5, 11)]
    for study in ("alone", "at_once"):
        nodes = [
            composed("config", *SMALL, "training.gradient_accumulation_steps=3", f"seed={seed}",
                     f"tracking.uri={uri}", f"tracking.study={study}")
            for seed in (0, 1)
        ]  # fmt: skip
        if study == "alone":
            train.train(nodes[0])
        else:
            vectorized.train_at_once(nodes)
        store = Store(uri, study)
        found = trials(store)["half_l2 lam=0.3 eta=0.2 seed=0"]
        rates = [rate for _, rate in histories(store, found)["learning_rate"]]
        assert rates == pytest.approx(cosine, rel=1e-5)
