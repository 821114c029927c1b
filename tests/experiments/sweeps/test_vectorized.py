"""Jobs trained at once: which of them are, and what fails alone."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from l2keras._sweep import stacking
from l2keras._sweep.group import Group
from l2keras._sweep.refusals import NotVectorizedError
from l2keras_experiments.config import flattening, paths
from l2keras_experiments.sweeps import completed, identity, job
from l2keras_experiments.sweeps.vectorized import jobs, trainer
from l2keras_experiments.tracking.outbox import Rejected
from l2keras_experiments.tracking.run import Run
from l2keras_experiments.tracking.store import Store
from tests.support import servers
from tests.support.groups import trials
from tests.support.runs import Compose, runs_of

pytestmark = pytest.mark.usefixtures("eager_steps", "programs_once")


def test_one_that_diverges_fails_alone(composed: Compose, group: list[str], uri: str) -> None:
    """A loss that is no number ends its run as FAILED; the others are as without it."""
    nodes = {
        study: [
            composed("config", *group, "regularization=half_l2", f"regularization.lam={lam}",
                     f"tracking.uri={uri}", f"tracking.study={study}")
            for lam in lams
        ]
        for study, lams in {"with": (0.1, 1e9, 0.3), "without": (0.1, 0.3)}.items()
    }  # fmt: skip
    outcomes = jobs.train_at_once(nodes["with"])
    assert [one.status for one in outcomes if one] == ["FINISHED", "FAILED", "FINISHED"]
    assert outcomes[1] is not None
    assert "DivergedError" in (outcomes[1].failure or "")
    others = jobs.train_at_once(nodes["without"])
    for one, other in zip([outcomes[0], outcomes[2]], others, strict=True):
        assert one is not None
        assert other is not None
        assert one.metrics["val_loss"] == pytest.approx(other.metrics["val_loss"], rel=1e-6)
    statuses = {name: run.info.status for name, run in trials(Store(uri, "with")).items()}
    assert sorted(statuses.values()) == ["FAILED", "FINISHED", "FINISHED"]


def test_what_is_done_is_skipped(composed: Compose, group: list[str], uri: str) -> None:
    """Launched again nothing is trained; with one more, that one has to be trained alone."""
    nodes = [composed("config", *group, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1, 2)]
    jobs.train_at_once(nodes[:2])
    again = jobs.train_at_once(nodes)
    assert [one and one.status for one in again] == ["SKIPPED", "SKIPPED", None]
    assert len(trials(Store(uri, "l2keras"))) == 2


def test_one_that_another_process_holds_is_left_to_it(
    composed: Compose, group: list[str], uri: str
) -> None:
    """The others are trained; who is at work on it is told."""
    nodes = [composed("config", *group, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1, 2)]
    store = Store(uri, "l2keras")
    held = identity.config_hash(flattening.flatten(nodes[1]))
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store.folder), completed.claim_name(store, held)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=paths.PROJECT,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        holder.stdout.readline()
        outcomes = jobs.train_at_once(nodes)
        holder.kill()
    assert [one and one.status for one in outcomes] == ["FINISHED", "RUNNING", "FINISHED"]
    assert len(trials(store)) == 2


HOLDER = """
import sys
from pathlib import Path
from l2keras_experiments.sweeps import identity
with identity.claim(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_what_another_launch_finishes_meanwhile_is_not_trained_twice(
    composed: Compose, group: list[str], uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked up again once it is claimed; if it is done, the claim is given up."""
    nodes = [composed("config", *group, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1, 2)]
    claim = jobs._claim

    def late(store: Store, held: Any) -> bool:
        if held.config.seed == 1:
            job.train(nodes[1])
        return claim(store, held)

    store = Store(uri, "l2keras")
    name = completed.claim_name(store, identity.config_hash(flattening.flatten(nodes[1])))
    start = jobs._start

    def unclaimed(*arguments: Any) -> None:
        assert identity.is_claimed(store.folder, name) is None
        start(*arguments)

    monkeypatch.setattr(jobs, "_claim", late)
    monkeypatch.setattr(jobs, "_start", unclaimed)
    outcomes = jobs.train_at_once(nodes)
    assert [one and one.status for one in outcomes] == ["FINISHED", "SKIPPED", "FINISHED"]
    found = [run for run in runs_of(store) if run.data.tags["kind"] == "trial"]
    assert sorted(run.data.tags.get("vectorized_size", "") for run in found) == ["", "2", "2"]


def test_a_store_that_is_away_is_waited_for(
    composed: Compose, group: list[str], uri: str, monkeypatch: pytest.MonkeyPatch
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
    nodes = [composed("config", *group, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1)]
    outcomes = jobs.train_at_once(nodes)
    assert [one and one.status for one in outcomes] == ["FINISHED", "FINISHED"]


def test_a_store_that_stays_away_leaves_the_jobs_to_be_trained_alone(
    composed: Compose, group: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a job alone does about it, it does for each."""
    monkeypatch.setattr("l2keras_experiments.tracking.run.PATIENCE", 0.1)
    away = f"tracking.uri=http://{servers.HOST}:{servers.free_port()}"
    nodes = [composed("config", *group, f"seed={s}", away) for s in (0, 1)]
    assert jobs.train_at_once(nodes) == [None, None]


def test_what_cannot_be_trained_at_once_opens_no_run(
    composed: Compose, group: list[str], uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model without a stacked form, in training or evaluation, is found out before."""

    def refuse(*_: Any) -> Any:
        raise NotVectorizedError("the layer odd has no form over stacked weights")

    nodes = [composed("config", *group, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1)]
    monkeypatch.setattr(Group, "evaluate", refuse)
    assert jobs.train_at_once(nodes) == [None, None]
    assert not trials(Store(uri, "l2keras"))


def test_one_whose_record_is_refused_fails_alone(
    composed: Compose, group: list[str], uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store has against one run does not end the others."""
    write, refused = Run.log_metrics, set[str]()

    def log(one: Run, metrics: dict[str, float], step: int = 0) -> None:
        if step == 1 and refused <= {one.id}:
            refused.add(one.id)
            raise Rejected("the store refuses it")
        write(one, metrics, step)

    monkeypatch.setattr(Run, "log_metrics", log)
    nodes = [composed("config", *group, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1, 2)]
    outcomes = jobs.train_at_once(nodes)
    assert [one and one.status for one in outcomes] == ["FAILED", "FINISHED", "FINISHED"]
    assert {one.run_id for one in outcomes if one and one.failed} == refused


def test_where_the_store_refuses_all_none_is_trained_to_its_end(
    composed: Compose, group: list[str], uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing left to train for."""
    epochs = []
    end = trainer.GroupTrainer._end_epoch

    def counted(*arguments: Any) -> None:
        epochs.append(1)
        end(*arguments)

    def refuse(*_: Any, **__: Any) -> None:
        raise Rejected("the store refuses it")

    monkeypatch.setattr(trainer.GroupTrainer, "_end_epoch", counted)
    monkeypatch.setattr(Run, "log_metrics", refuse)
    nodes = [composed("config", *group, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1)]
    outcomes = jobs.train_at_once(nodes)
    assert [one and one.status for one in outcomes] == ["FAILED", "FAILED"]
    assert len(epochs) == 1


def test_where_stacking_gains_nothing_they_are_trained_alone(
    composed: Compose,
    group: list[str],
    uri: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No run is opened, and why is told."""
    monkeypatch.setattr(stacking, "most_at_once", lambda model: (1, ", as it is slower"))
    nodes = [composed("config", *group, f"seed={s}", f"tracking.uri={uri}") for s in (0, 1)]
    assert jobs.train_at_once(nodes) == [None, None]
    assert "2 members, 1 at once, as it is slower" in capsys.readouterr().err
    assert not trials(Store(uri, "l2keras"))
