"""A sweep: one parent, what is done is skipped, what failed is tried again and told."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from l2keras_experiments.commands import validation
from l2keras_experiments.config import flattening
from l2keras_experiments.runtime import progress
from l2keras_experiments.runtime.outcome import Outcome
from l2keras_experiments.sweeps import completed, identity
from l2keras_experiments.sweeps import job as job_module
from l2keras_experiments.sweeps.sweep import Job, Sweep
from l2keras_experiments.tracking import recording
from l2keras_experiments.tracking.store import Store, launch_tag
from tests.support import factorial
from tests.support.runs import SMALL, Compose, mistake, runs_of

pytestmark = pytest.mark.usefixtures("eager_steps")

Run = Callable[..., bool]
LINEAR = ["data=teacher_student", "model=linear", "tracking.log_model=false"]
TINY = [*(word for word in SMALL if not word.startswith("model.")), *LINEAR]


@pytest.fixture
def sweep(composed: Compose, uri: str, request: pytest.FixtureRequest) -> Run:
    """Runs a sweep over points (lists of overrides) in this process; True if a run failed.

    It makes a page with `page=True`, or with `--full`.
    """
    full = request.config.getoption("full")

    def run(
        *points: Sequence[str], rerun: str = "failed", watch: bool = False, page: bool = False
    ) -> bool:
        same = [*TINY, f"tracking.uri={uri}", f"rerun={rerun}"]
        nodes = {tuple(point): composed("config", *same, *point) for point in points}
        jobs = [
            Job(point, identity.config_hash(flattening.flatten(node)), validation.typed(node), node)
            for point, node in nodes.items()
        ]

        def launch(todo: Sequence[Job], parent: str) -> list[Outcome]:
            return [one(job, nodes[job.overrides], parent) for job in todo]

        with pytest.MonkeyPatch.context() as patch:
            if not (page or full):
                patch.setattr("l2keras_experiments.sweeps.sweep._report", lambda *_: None)
            return Sweep(jobs, "sweep", launch, watch=watch).run()

    def one(job: Job, node: Any, parent: str) -> Outcome:
        node.tracking.parent = parent
        try:
            return job_module.train(node)
        except (Exception, SystemExit) as error:
            return Outcome.of_error(job.label, job.config_hash, error)

    return run


def parents(store: Store) -> list[Any]:
    return [run for run in runs_of(store) if run.data.tags["kind"] == "sweep"]


def test_all_runs_hang_under_one_parent_and_are_trained_once(sweep: Run, uri: str) -> None:
    """The same sweep again trains nothing, makes no second parent, and counts the same."""
    points = [["seed=0"], ["seed=1"]]
    assert not sweep(*points, page=True)
    store = Store(uri, "l2keras")
    [parent] = parents(store)
    files = {file.path for file in store.client.list_artifacts(parent.info.run_id, "report")}
    assert "report/report.html" in files
    first = {run.info.run_id for run in runs_of(store, parent)}
    assert len(first) == 2
    assert not sweep(*points)
    [parent] = parents(store)
    assert {run.info.run_id for run in runs_of(store, parent)} == first
    assert len(runs_of(store)) == 3
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"seed": "0, 1"}
    counts = {key: parent.data.metrics[key] for key in ("runs", "runs_finished", "runs_failed")}
    assert counts == {"runs": 2.0, "runs_finished": 2.0, "runs_failed": 0.0}


def test_a_larger_sweep_takes_over_what_is_done(sweep: Run, uri: str) -> None:
    """A finished run is not trained again; it is part of both sweeps, whose links stay whole."""
    sweep(["seed=0"])
    sweep(["seed=0"], ["seed=1"])
    store = Store(uri, "l2keras")
    newest, oldest = parents(store)
    part_of = {
        parent.info.run_id: {
            run.data.params["seed"]
            for run in runs_of(store)
            if launch_tag(parent.info.run_id) in run.data.tags
        }
        for parent in (newest, oldest)
    }
    assert part_of == {newest.info.run_id: {"0", "1"}, oldest.info.run_id: {"0"}}
    assert len(runs_of(store)) == 4


@pytest.mark.parametrize(
    "way", factorial.sample([SystemExit(3), MemoryError("no more"), ValueError("bad")], 1)
)
def test_a_failing_job_does_not_stop_the_others(
    sweep: Run,
    uri: str,
    way: BaseException,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An exception, lack of memory, sys.exit: the others finish; the list says who and why."""
    record = recording.record_trial

    def fail(run: Any, node: Any, config: Any, *others: Any, **kept: Any) -> Any:
        if config.seed == 1:
            raise way
        return record(run, node, config, *others, **kept)

    points = [["seed=0"], ["seed=1"], ["seed=2"]]
    with monkeypatch.context() as patch:
        patch.setattr(job_module, "record_trial", fail)
        assert sweep(*points)
    printed = capsys.readouterr().out
    assert "2 of 3 runs finished" in printed
    assert f"HalfL2 lam=0.01 eta=0.2 seed=1: FAILED {type(way).__name__}: {way}" in printed
    store = Store(uri, "l2keras")
    [parent] = parents(store)
    assert parent.info.status == "FAILED"
    statuses = [run.info.status for run in runs_of(store, parent)]
    assert sorted(statuses) == ["FAILED", "FINISHED", "FINISHED"]
    assert not sweep(*points)  # the failed one only, in the same run
    statuses = [run.info.status for run in runs_of(store, parent)]
    assert statuses == ["FINISHED"] * 3


def test_rerun_says_what_is_trained_again(
    sweep: Run, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`none` leaves a failed run failed, `failed` tries it, `all` trains what is finished too."""
    point = ["regularization.lam=1e6"]
    assert sweep(point)
    store = Store(uri, "l2keras")
    [failed] = [run for run in runs_of(store) if run.data.tags["kind"] == "trial"]
    ended = failed.info.end_time
    assert "1 failed; the same command tries them again:" in capsys.readouterr().out
    assert sweep(point, rerun="none")
    assert "1 failed; rerun=failed tries them again:" in capsys.readouterr().out
    assert store.client.get_run(failed.info.run_id).info.end_time == ended
    assert sweep(point)
    assert store.client.get_run(failed.info.run_id).info.end_time > ended
    sweep(["seed=1"])
    sweep(["seed=1"], rerun="all")
    trials = [run for run in runs_of(store) if run.data.tags["kind"] == "trial"]
    assert [run.info.status for run in trials].count("FINISHED") == 2


def test_what_runs_elsewhere_is_watched(
    sweep: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log tells of every run that ends in another process; a failure of before is not counted."""
    diverging = ["regularization.lam=1e6"]
    sweep(diverging)
    capsys.readouterr()
    monkeypatch.setattr("l2keras_experiments.sweeps.sweep.WATCH_SECONDS", 0.01)
    monkeypatch.setattr(progress, "current_board", lambda: None)  # as there
    board_watch, train_one = progress.SweepBoard.watch, job_module.train
    ended, told = [], [0]

    def watch(board: progress.SweepBoard, done: int, failed: int) -> None:
        board_watch(board, done, failed)
        told.append(done)

    def train_until_told(node: Any) -> Outcome:
        try:
            return train_one(node)
        finally:
            ended.append(node)
            deadline = time.monotonic() + 60
            while told[-1] < len(ended) and time.monotonic() < deadline:
                time.sleep(0.01)

    monkeypatch.setattr(progress.SweepBoard, "watch", watch)
    monkeypatch.setattr(job_module, "train", train_until_told)
    sweep(["seed=1"], diverging, ["seed=2"], watch=True)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]
    assert lines[0].startswith("[1/3 done, 0 failed, 2 left, ")
    assert lines[1].startswith("[2/3 done, 1 failed, 1 left, ")


def abandoned(composed: Compose, store: Store, uri: str) -> tuple[str, str]:
    """A RUNNING run of the default config, as SIGKILL leaves it; its id and its hash."""
    told = identity.config_hash(
        flattening.flatten(composed("config", f"tracking.uri={uri}", *TINY))
    )
    tags = {"kind": "trial", recording.HASH_TAG: told, "host": "here"}
    run = store.client.create_run(store.experiment_id, tags=tags)
    return run.info.run_id, told


def test_a_run_of_a_dead_process_is_gone_on_with(composed: Compose, sweep: Run, uri: str) -> None:
    """RUNNING, and the lock of its process free: it is taken up again, in the same run."""
    store = Store(uri, "l2keras")
    run_id, told = abandoned(composed, store, uri)
    store.folder.mkdir(parents=True, exist_ok=True)
    (store.folder / f"{completed.claim_name(store, told)}.lock").touch()
    assert not sweep(["seed=0"])
    assert store.client.get_run(run_id).info.status == "FINISHED"


def test_a_run_of_a_living_process_is_left_alone(
    composed: Compose, sweep: Run, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """RUNNING, and its lock held, or on disks that are not ours: it is told, not touched."""
    store = Store(uri, "l2keras")
    run_id, told = abandoned(composed, store, uri)
    assert not sweep(["seed=0"])  # no lock here
    with identity.claim(store.folder, completed.claim_name(store, told)):
        assert not sweep(["seed=0"])
    assert capsys.readouterr().out.count("RUNNING at work on here") == 2
    assert store.client.get_run(run_id).info.status == "RUNNING"


def test_a_job_without_a_trace_is_told(
    composed: Compose, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A launcher that raises, or a process that leaves no run: every job is in the list."""
    node = composed("config", f"tracking.uri={uri}", *TINY)
    job = Job((), identity.config_hash(flattening.flatten(node)), validation.typed(node), node)

    def launch(todo: Sequence[Job], parent: str) -> list[Outcome]:
        raise RuntimeError("no machine is free")

    assert Sweep([job], "sweep", launch, watch=False).run()
    printed = capsys.readouterr()
    assert "RuntimeError: no machine is free" in printed.err
    assert "seed=0: FAILED it came to no run" in printed.out


def test_mistakes_anywhere_in_a_sweep_are_answered_before_it(tmp_path: Path) -> None:
    """One impossible job of many: one line, status 2, no backend, no run."""
    folder = f"hydra.sweep.dir={tmp_path}"
    store = f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}"
    told = mistake("experiments.train", "-m", "regularization.lam=0.1,-1", store, folder)
    assert "Received: regularization.lam=0.1,-1. " in told
    told = mistake("experiments.train", "-m", "tracking.study=a,b", store, folder)
    assert "`tracking.study` must be the same for all runs of a sweep" in told
    told = mistake("experiments.train", "-m", "seed=0", "rerun=all,none", store, folder)
    assert "`rerun` must be the same for all runs of a sweep" in told
    told = mistake("experiments.train", "-m", "backend=tensorflow,jax", store, folder)
    assert "`backend` must be the same for all runs of a sweep" in told
    assert not (tmp_path / "mlflow.db").exists()
