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
    from l2keras_experiments.sweeps.vectorized.member import Runner
    from l2keras_experiments.sweeps.vectorized.trainer import OnEpoch, Together


@dataclass
class _Seat:
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
    seats = [_seat(node) for node in nodes]
    if not all(identity.is_as_planned(seat.config, seat.config_hash) for seat in seats):
        return [None] * len(seats)  # alone each is refused
    with signals.stoppable():  # around all runs, whichever ends first
        try:
            _train_seats(seats)
        except Exception as error:
            _end_all(seats, error)
            left = sum(seat.outcome is None for seat in seats)
            if left > 1:
                print(f"{left} runs are trained one by one: {describe(error)}", file=sys.stderr)
        except BaseException as error:
            _end_all(seats, error)
            raise
    return [seat.outcome for seat in seats]


def _train_seats(seats: Sequence[_Seat]) -> None:
    """Trains what no one else does; whatever it raises, runs may be open."""
    config = seats[0].config
    device_name = device.set_up(config)
    from l2keras_experiments.training.checkpoint import ALONE, TOGETHER

    store = opened(config.tracking.uri, config.tracking.study, patient=True)
    signals.check()
    unsettled = _unsettled(store, seats)
    kept = [_kept(store, seat) for seat in unsettled]
    waiting = [seat for seat, how in zip(unsettled, kept, strict=True) if how != ALONE]
    resumes = TOGETHER in kept
    if len(waiting) < 2 and not resumes:
        return
    from l2keras_experiments.sweeps.vectorized.trainer import Together

    together = Together([seat.config for seat in waiting])
    if together.size == 1 and not resumes:
        print(f"trained one by one: {together.note}", file=sys.stderr)
        return
    together.rehearse()  # what cannot be trained at once raises here: no run has been opened
    for numbers in together.chunks():
        _open(store, [waiting[number] for number in numbers])
        claimed = [number for number in numbers if waiting[number].run is not None]
        _train(waiting, claimed, together, device_name)


def _seat(node: DictConfig) -> _Seat:
    return _Seat(node, validation.typed(node), identity.config_hash(flattening.flatten(node)))


def _unsettled(store: Store, seats: Sequence[_Seat], *, claimed: bool = False) -> list[_Seat]:
    """Those that no other launch has done, and no other process is at work on."""
    known = completed.find(store, [seat.config_hash for seat in seats])
    for seat in seats:
        seat.entries = known[seat.config_hash]
        settled = completed.settled(seat.entries, seat.config.rerun, seat.label, claimed=claimed)
        if settled is not None:
            seat.close()
            seat.settle(settled)
    return [seat for seat in seats if seat.outcome is None]


def _kept(store: Store, seat: _Seat) -> str | None:
    """How the launch trained it whose state is to be gone on from; None where there is none."""
    from l2keras_experiments.training import checkpoint

    run_id = completed.resumable(seat.entries, seat.config.rerun)
    if run_id is None:
        return None
    endings = (checkpoint.ALONE, checkpoint.TOGETHER)
    paths = {how: checkpoint.path_of(store.folder, run_id, how) for how in endings}
    left = [how for how, path in paths.items() if path.exists()]
    return max(left, key=lambda how: paths[how].stat().st_mtime, default=None)


def _open(store: Store, seats: Sequence[_Seat]) -> None:
    """Claims the configs and opens their runs; those that another process has or does are not."""
    claimed = [seat for seat in seats if _claim(store, seat)]
    free = _unsettled(store, claimed, claimed=True)  # another process may have been faster
    values = ("true", uuid.uuid4().hex[:8], str(len(free)))
    about = dict(zip(VECTORIZED_TAGS, values, strict=True))
    for seat in free:
        config = seat.config
        resume = completed.resumable(seat.entries, config.rerun)
        tags = run_tags(config, seat.config_hash) | about
        context = store.run(
            run_name(config),
            parent=config.tracking.parent,
            tags=tags,
            resume=resume,
            system_metrics=config.tracking.system_metrics,
        )
        seat.run = seat.resources.enter_context(context)


def _claim(store: Store, seat: _Seat) -> bool:
    """Whether this process is the one to train it."""
    try:
        name = completed.claim_name(store, seat.config_hash)
        seat.resources.enter_context(identity.claim(store.folder, name))
    except identity.Busy:
        why = "another process is at work on it"
        seat.settle(Outcome(seat.label, seat.config_hash, "RUNNING", failure=why))
        return False
    return True


def _train(
    seats: Sequence[_Seat], numbers: Sequence[int], together: Together, device_name: str
) -> None:
    """Trains a chunk, whose runs are open.

    The metric `seconds` of each run is its share of the wall time: that of the chunk, divided by
    the number of its runs; what earlier launches spent on it is counted too.
    """
    for number in numbers:
        _start(seats[number], together.runners[number], together, device_name)
    numbers = [number for number in numbers if seats[number].run is not None]
    if not numbers:
        return
    config = seats[0].config
    label = f"{len(numbers)} runs at once" if len(numbers) > 1 else seats[numbers[0]].label
    try:
        with (
            suppress(_NoneLeftError),
            progress.fit(
                config.training.epochs, label, config.training.progress, config.training.selection
            ) as advance,
        ):
            together.fit(
                numbers,
                _recorder(seats, advance),
                on_restored=lambda number, epochs, best: seats[number].log(epochs, best),
            )
        for number in numbers:
            _finish(seats[number], together.runners[number], together)
    except BaseException:
        for number in numbers:
            _keep(seats[number], together.runners[number])
        raise


def _start(seat: _Seat, runner: Runner, together: Together, device_name: str) -> None:
    """Records what is known of a run, and goes on from what is kept of it.

    Where that cannot be, this run fails and no other, as in what follows.
    """
    from l2keras_experiments.training import checkpoint

    run = seat.run
    assert run is not None
    try:
        record_start(run, seat.node, seat.config, device_name, together.data(runner))
        run.log_decay(together.audit(runner))
        kept = checkpoint.path_of(run.store.folder, run.id, checkpoint.TOGETHER)
        runner.checkpoint_path = kept
        runner.resume()
    except Exception as error:
        seat.fail(error)


def _keep(seat: _Seat, runner: Runner) -> None:
    """Keeps the last whole epoch of a run that is still open."""
    with suppress(OSError):  # the next launch begins where it was kept before
        if seat.run is not None:
            runner.keep()


class _NoneLeftError(Exception):
    """Every run that is trained has failed."""


def _recorder(seats: Sequence[_Seat], advance: progress.Advance) -> OnEpoch:
    """Writes the metrics of an epoch into the run that they belong to.

    Raises:
        _NoneLeftError: there is no run to write into any more.
    """
    shown: set[int] = set()

    def on_epoch(number: int, epoch: int, metrics: dict[str, float]) -> None:
        seat = seats[number]
        if seat.run is None:
            return
        if seat.log(epoch, metrics):
            if epoch not in shown:
                shown.add(epoch)
                advance(metrics)
            try:
                check_finite(metrics)
            except DivergedError as error:
                seat.fail(error, metrics)
        if all(one.run is None for one in seats):
            raise _NoneLeftError

    return on_epoch


def _finish(seat: _Seat, runner: Runner, together: Together) -> None:
    """Records what came of a run, if it is still open."""
    from l2keras_experiments.training import checkpoint

    run = seat.run
    if run is None:
        return
    try:
        _record(run, seat.config, runner, together)
        seat.close()
    except Exception as error:
        _keep(seat, runner)
        seat.fail(error)
        return
    checkpoint.remove(run.store.folder, run.id)
    metrics = runner.final | runner.test
    done = Outcome(seat.label, seat.config_hash, "FINISHED", run.id, metrics, runner.seconds)
    done = replace(done, selection=seat.config.training.selection)
    seat.settle(done)


def _record(run: Run, config: Config, runner: Runner, together: Together) -> None:
    record_result(
        run,
        config,
        lam=runner.method.effective_lam,
        updates=together.steps_per_epoch / config.training.gradient_accumulation_steps,
        seconds=runner.seconds,
        last=runner.final,
        test=runner.test,
        model=together.model(runner) if config.tracking.log_model else None,
        data=together.data(runner),
    )


def _end_all(seats: Sequence[_Seat], error: BaseException) -> None:
    """Ends every run that is open, whatever goes wrong with another one."""
    with ExitStack() as stack:
        for seat in reversed(seats):
            stack.callback(seat.end, error)
