"""Jobs of a sweep that are trained at once, each recorded as a run of its own."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from l2keras_experiments.commands import validation
from l2keras_experiments.config import flattening
from l2keras_experiments.config.schema import Config, run_label, run_name
from l2keras_experiments.runtime import device, progress, signals
from l2keras_experiments.runtime.outcome import DivergedError, Outcome, describe
from l2keras_experiments.sweeps import completed, identity
from l2keras_experiments.tracking.outbox import Rejected
from l2keras_experiments.tracking.recording import (
    check_finite,
    record_result,
    record_start,
    run_tags,
)
from l2keras_experiments.tracking.run import Run
from l2keras_experiments.tracking.store import VECTORIZED_TAGS, Store, opened

if TYPE_CHECKING:
    from l2keras_experiments.sweeps.vectorized.stacked_run import StackedRun
    from l2keras_experiments.sweeps.vectorized.trainer import GroupTrainer, OnEpoch


@dataclass
class _Job:
    """A job, its run while that is open, and what came of it."""

    node: DictConfig
    config: Config
    config_hash: str
    entries: completed.Entries = ()  # what the store knew of its config when it was last asked
    outcome: Outcome | None = None
    run: Run | None = None
    resources: ExitStack = field(default_factory=ExitStack)

    @property
    def label(self) -> str:
        return run_label(self.config)

    def settle(self, outcome: Outcome) -> None:
        """Keeps what came of the job, and shows it."""
        self.outcome = outcome
        progress.show(outcome)

    def close(self, error: BaseException | None = None) -> None:
        """Ends the run, FAILED or KILLED where there is an error, and gives up the claim."""
        resources, self.resources = self.resources, ExitStack()
        told = (None, None, None) if error is None else (type(error), error, error.__traceback__)
        try:
            resources.__exit__(*told)
        except BaseException as raised:
            if raised is not error:
                raise
        self.run = None

    def end(self, error: BaseException) -> None:
        """Ends the run as `error` says; where none is open there may be a claim to give up."""
        if self.run is not None and isinstance(error, Exception):
            self.fail(error)
        else:
            self.close(error)

    def log(self, epoch: int, metrics: dict[str, float]) -> bool:
        """Writes metrics into the run, if it is open; where the store rejects them, it fails."""
        if self.run is None:
            return False
        try:
            self.run.log_metrics(metrics, step=epoch)
        except Rejected as error:  # what the store has against this run is none of the others'
            self.fail(error)
            return False
        return True

    def fail(self, error: Exception, metrics: Mapping[str, float] | None = None) -> None:
        """Ends the run as FAILED; the next launch goes on with it."""
        assert self.run is not None
        failed = Outcome.of_error(self.label, self.config_hash, error)
        failed = replace(failed, run_id=self.run.id, metrics=metrics or {}, details=None)
        self.close(error)
        self.settle(failed)


def train_at_once(nodes: Sequence[DictConfig]) -> list[Outcome | None]:
    """Trains jobs with one `trainer.group_key`; None for one that has to be trained alone.

    What has been done already is left alone, as `sweeps.job.train` does.

    Raises:
        KeyboardInterrupt, Terminated: every open run has been ended as KILLED.
    """
    jobs = [_job(node) for node in nodes]
    if not all(identity.is_as_planned(job.config, job.config_hash) for job in jobs):
        return [None] * len(jobs)  # alone each is refused
    with signals.stoppable():  # around all runs, whichever ends first
        try:
            _train_jobs(jobs)
        except Exception as error:
            _end_all(jobs, error)
            left = sum(job.outcome is None for job in jobs)
            if left > 1:
                print(f"{left} runs are trained one by one: {describe(error)}", file=sys.stderr)
        except BaseException as error:
            _end_all(jobs, error)
            raise
    return [job.outcome for job in jobs]


def _train_jobs(jobs: Sequence[_Job]) -> None:
    """Trains what no one else does; whatever it raises, runs may be open."""
    config = jobs[0].config
    device_name = device.set_up(config)
    from l2keras_experiments.training.checkpoint import ALONE, STACKED

    store = opened(config.tracking.uri, config.tracking.study, patient=True)
    signals.check()
    unsettled = _unsettled(store, jobs)
    endings = [_checkpoint(store, job) for job in unsettled]
    waiting = [job for job, how in zip(unsettled, endings, strict=True) if how != ALONE]
    resumes = STACKED in endings
    if len(waiting) < 2 and not resumes:
        return
    from l2keras_experiments.sweeps.vectorized.trainer import GroupTrainer

    trainer = GroupTrainer([job.config for job in waiting])
    if trainer.size == 1 and not resumes:
        print(f"trained one by one: {trainer.note}", file=sys.stderr)
        return
    trainer.rehearse()  # what cannot be trained at once raises here: no run has been opened
    for numbers in trainer.chunks():
        _open(store, [waiting[number] for number in numbers])
        claimed = [number for number in numbers if waiting[number].run is not None]
        _train(waiting, claimed, trainer, device_name)


def _job(node: DictConfig) -> _Job:
    return _Job(node, validation.typed(node), identity.config_hash(flattening.flatten(node)))


def _unsettled(store: Store, jobs: Sequence[_Job], *, claimed: bool = False) -> list[_Job]:
    """Those that no other launch has done, and no other process is at work on."""
    known = completed.find(store, [job.config_hash for job in jobs])
    for job in jobs:
        job.entries = known[job.config_hash]
        settled = completed.settled(job.entries, job.config.rerun, job.label, claimed=claimed)
        if settled is not None:
            job.close()
            job.settle(settled)
    return [job for job in jobs if job.outcome is None]


def _checkpoint(store: Store, job: _Job) -> str | None:
    """How the launch trained it whose state is to be gone on from; None where there is none."""
    from l2keras_experiments.training import checkpoint

    run_id = completed.resumable(job.entries, job.config.rerun)
    if run_id is None:
        return None
    endings = (checkpoint.ALONE, checkpoint.STACKED)
    paths = {how: checkpoint.path_of(store.folder, run_id, how) for how in endings}
    left = [how for how, path in paths.items() if path.exists()]
    return max(left, key=lambda how: paths[how].stat().st_mtime, default=None)


def _open(store: Store, jobs: Sequence[_Job]) -> None:
    """Claims the configs and opens their runs; those that another process has or does are not."""
    claimed = [job for job in jobs if _claim(store, job)]
    free = _unsettled(store, claimed, claimed=True)  # another process may have been faster
    values = ("true", uuid.uuid4().hex[:8], str(len(free)))
    about = dict(zip(VECTORIZED_TAGS, values, strict=True))
    for job in free:
        config = job.config
        resume = completed.resumable(job.entries, config.rerun)
        tags = run_tags(config, job.config_hash) | about
        context = store.run(
            run_name(config),
            parent=config.tracking.parent,
            tags=tags,
            resume=resume,
            system_metrics=config.tracking.system_metrics,
        )
        job.run = job.resources.enter_context(context)


def _claim(store: Store, job: _Job) -> bool:
    """Whether this process is the one to train it."""
    try:
        name = completed.claim_name(store, job.config_hash)
        job.resources.enter_context(identity.claim(store.folder, name))
    except identity.Busy:
        why = "another process is at work on it"
        job.settle(Outcome(job.label, job.config_hash, "RUNNING", failure=why))
        return False
    return True


def _train(
    jobs: Sequence[_Job], numbers: Sequence[int], trainer: GroupTrainer, device_name: str
) -> None:
    """Trains a chunk, whose runs are open.

    The metric `seconds` of each run is its share of the wall time: that of the chunk, divided by
    the number of its runs; what earlier launches spent on it is counted too.
    """
    for number in numbers:
        _start(jobs[number], trainer.runs[number], trainer, device_name)
    numbers = [number for number in numbers if jobs[number].run is not None]
    if not numbers:
        return
    config = jobs[0].config
    label = f"{len(numbers)} runs at once" if len(numbers) > 1 else jobs[numbers[0]].label
    try:
        with (
            suppress(_NoneLeftError),
            progress.fit(
                config.training.epochs, label, config.training.progress, config.training.selection
            ) as advance,
        ):
            trainer.fit(
                numbers,
                _recorder(jobs, advance),
                on_restored=lambda number, epochs, best: jobs[number].log(epochs, best),
            )
        for number in numbers:
            _finish(jobs[number], trainer.runs[number], trainer)
    except BaseException:
        for number in numbers:
            _keep(jobs[number], trainer.runs[number])
        raise


def _start(job: _Job, stacked: StackedRun, trainer: GroupTrainer, device_name: str) -> None:
    """Records what is known of a run, and goes on from what is kept of it.

    Where that cannot be, this run fails and no other, as in what follows.
    """
    from l2keras_experiments.training import checkpoint

    run = job.run
    assert run is not None
    try:
        record_start(run, job.node, job.config, device_name, trainer.data(stacked))
        run.log_decay(trainer.audit(stacked))
        path = checkpoint.path_of(run.store.folder, run.id, checkpoint.STACKED)
        stacked.checkpoint_path = path
        stacked.resume()
    except Exception as error:
        job.fail(error)


def _keep(job: _Job, stacked: StackedRun) -> None:
    """Keeps the last whole epoch of a run that is still open."""
    with suppress(OSError):  # the next launch begins where it was kept before
        if job.run is not None:
            stacked.keep()


class _NoneLeftError(Exception):
    """Every run that is trained has failed."""


def _recorder(jobs: Sequence[_Job], advance: progress.Advance) -> OnEpoch:
    """Writes the metrics of an epoch into the run that they belong to.

    Raises:
        _NoneLeftError: there is no run to write into any more.
    """
    shown: set[int] = set()

    def on_epoch(number: int, epoch: int, metrics: dict[str, float]) -> None:
        job = jobs[number]
        if job.run is None:
            return
        if job.log(epoch, metrics):
            if epoch not in shown:
                shown.add(epoch)
                advance(metrics)
            try:
                check_finite(metrics)
            except DivergedError as error:
                job.fail(error, metrics)
        if all(one.run is None for one in jobs):
            raise _NoneLeftError

    return on_epoch


def _finish(job: _Job, stacked: StackedRun, trainer: GroupTrainer) -> None:
    """Records what came of a run, if it is still open."""
    from l2keras_experiments.training import checkpoint

    run = job.run
    if run is None:
        return
    try:
        _record(run, job.config, stacked, trainer)
        job.close()
    except Exception as error:
        _keep(job, stacked)
        job.fail(error)
        return
    checkpoint.remove(run.store.folder, run.id)
    metrics = stacked.final | stacked.test
    done = Outcome(job.label, job.config_hash, "FINISHED", run.id, metrics, stacked.seconds)
    done = replace(done, selection=job.config.training.selection)
    job.settle(done)


def _record(run: Run, config: Config, stacked: StackedRun, trainer: GroupTrainer) -> None:
    record_result(
        run,
        config,
        lam=stacked.method.effective_lam,
        updates=trainer.steps_per_epoch / config.training.gradient_accumulation_steps,
        seconds=stacked.seconds,
        last=stacked.final,
        test=stacked.test,
        model=trainer.model(stacked) if config.tracking.log_model else None,
        data=trainer.data(stacked),
    )


def _end_all(jobs: Sequence[_Job], error: BaseException) -> None:
    """Ends every run that is open, whatever goes wrong with another one."""
    with ExitStack() as stack:
        for job in reversed(jobs):
            stack.callback(job.end, error)
