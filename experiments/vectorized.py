"""Jobs of a sweep that are trained at once, each recorded as a run of its own."""

from __future__ import annotations

import math
import sys
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from experiments import cli, device, identity, ledger, progress, signals
from experiments.outcome import Outcome, describe
from experiments.schema import Config, run_label
from experiments.tracking import Store
from experiments.train import DivergedError, record_result, record_start, run_tags

if TYPE_CHECKING:
    from experiments.run import Run
    from experiments.together import OnEpoch, Runner, Together


@dataclass
class _Seat:
    """A job, its run while that is open, and what came of it."""

    node: DictConfig
    config: Config
    config_hash: str
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
        """Ends the run, FAILED or KILLED where there is an error."""
        resources, self.resources, self.run = self.resources, ExitStack(), None
        told = (None, None, None) if error is None else (type(error), error, error.__traceback__)
        try:
            resources.__exit__(*told)
        except BaseException as raised:
            if raised is not error:
                raise


def train_at_once(nodes: Sequence[DictConfig]) -> list[Outcome | None]:
    """Trains jobs with one `together.group_key`; None for one that has to be trained alone.

    What has been done already is left alone, as `experiments.train.train` does.

    Raises:
        KeyboardInterrupt, Terminated: every open run has been ended as KILLED.
    """
    seats = [_seat(node) for node in nodes]
    device_name = device.set_up(seats[0].config)
    store = Store(seats[0].config.tracking.uri, seats[0].config.tracking.study)
    signals.check()
    waiting = _unsettled(store, seats)
    if len(waiting) < 2:
        return [seat.outcome for seat in seats]
    from experiments.together import Together

    try:
        together = Together([seat.config for seat in waiting])
        for numbers in together.chunks():
            _open(store, [waiting[number] for number in numbers])
            opened = [number for number in numbers if waiting[number].run is not None]
            _train(store, waiting, opened, together, device_name)
    except Exception as error:
        _close_all(waiting, error)  # trained alone, each goes on with its run
        left = sum(seat.outcome is None for seat in waiting)
        print(f"{left} runs are trained one by one: {describe(error)}", file=sys.stderr)
    except BaseException as error:
        _close_all(waiting, error)
        raise
    return [seat.outcome for seat in seats]


def _seat(node: DictConfig) -> _Seat:
    return _Seat(node, cli.typed(node), identity.config_hash(cli.flatten(node)))


def _unsettled(store: Store, seats: Sequence[_Seat]) -> list[_Seat]:
    """Those that no earlier launch has done, and no other process is at work on."""
    known = ledger.find(store, [seat.config_hash for seat in seats])
    for seat in seats:
        settled = ledger.settled(known[seat.config_hash], seat.config.rerun, seat.label)
        if settled is not None:
            seat.settle(settled)
    return [seat for seat in seats if seat.outcome is None]


def _open(store: Store, seats: Sequence[_Seat]) -> None:
    """Claims the configs and opens their runs; those that another process holds are left out."""
    free = [seat for seat in seats if _claim(store, seat)]
    known = ledger.find(store, [seat.config_hash for seat in free])
    about = {
        "vectorized": "true",
        "vectorized_group": uuid.uuid4().hex[:8],
        "vectorized_size": str(len(free)),
    }
    for seat in free:
        config = seat.config
        resume = ledger.resumable(known[seat.config_hash], config.rerun)
        tags = run_tags(config, seat.config_hash) | about
        opened = store.run(seat.label, parent=config.tracking.parent, tags=tags, resume=resume)
        seat.run = seat.resources.enter_context(opened)


def _claim(store: Store, seat: _Seat) -> bool:
    """Whether this process is the one to train it."""
    try:
        name = ledger.claim_name(store, seat.config_hash)
        seat.resources.enter_context(identity.claim(store.folder, name))
    except identity.Busy:
        why = "another process is at work on it"
        seat.settle(Outcome(seat.label, seat.config_hash, "RUNNING", failure=why))
        return False
    return True


def _train(
    store: Store,
    seats: Sequence[_Seat],
    numbers: Sequence[int],
    together: Together,
    device_name: str,
) -> None:
    """Trains a chunk, whose runs are open."""
    if not numbers:
        return
    for number in numbers:
        seat, runner = seats[number], together.runners[number]
        assert seat.run is not None
        record_start(seat.run, seat.node, seat.config, device_name)
        seat.run.log_decay(together.audit(runner))
        runner.checkpoint_path = store.folder / "checkpoints" / f"{seat.run.id}.together.state"
        runner.resume()
    config = seats[0].config
    label = f"{len(numbers)} runs at once"
    with progress.fit(config.training.epochs, label, config.training.progress) as advance:
        seconds = together.fit(numbers, _recorder(seats, advance)) / len(numbers)
    for number in numbers:
        runner = together.runners[number]
        if seats[number].outcome is None:
            _finish(seats[number], runner, together, seconds)
        if runner.checkpoint_path is not None:
            runner.checkpoint_path.unlink(missing_ok=True)


def _recorder(seats: Sequence[_Seat], advance: progress.Advance) -> OnEpoch:
    """Writes the metrics of an epoch into the run that they belong to."""
    shown: set[int] = set()

    def on_epoch(number: int, epoch: int, metrics: dict[str, float]) -> None:
        signals.check()
        run = seats[number].run
        if run is None:
            return
        run.log_metrics(metrics, step=epoch)
        if epoch not in shown:
            shown.add(epoch)
            advance(metrics)
        if not math.isfinite(metrics["loss"]):
            _diverge(seats[number], metrics)

    return on_epoch


def _diverge(seat: _Seat, metrics: dict[str, float]) -> None:
    error = DivergedError(f"the loss is {metrics['loss']} after an epoch")
    assert seat.run is not None
    run_id = seat.run.id
    seat.close(error)
    failed = Outcome.of_error(seat.label, seat.config_hash, error)
    seat.settle(replace(failed, run_id=run_id, metrics=metrics, details=None))


def _finish(seat: _Seat, runner: Runner, together: Together, seconds: float) -> None:
    assert seat.run is not None
    run_id = seat.run.id
    updates = together.steps_per_epoch / seat.config.training.gradient_accumulation_steps
    model = together.model(runner) if seat.config.tracking.log_model else None
    record_result(
        seat.run,
        seat.config,
        lam=runner.method.effective_lam,
        updates=updates,
        seconds=seconds,
        model=model,
    )
    seat.close()
    last = {key: values[-1] for key, values in runner.history.items()}
    told = seat.label, seat.config_hash
    seat.settle(Outcome(*told, "FINISHED", run_id=run_id, metrics=last, seconds=seconds))


def _close_all(seats: Sequence[_Seat], error: BaseException) -> None:
    for seat in seats:
        seat.close(error)
