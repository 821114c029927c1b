"""Jobs of a sweep that are trained at once, each recorded as a run of its own."""

from __future__ import annotations

import math
import sys
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from experiments import cli, device, identity, ledger, progress, signals
from experiments.outcome import Outcome, describe
from experiments.schema import Config, run_label
from experiments.tracking import Store
from experiments.train import DivergedError, record_result, record_start, run_tags

if TYPE_CHECKING:
    from experiments.run import Run
    from experiments.together import OnEpoch, Runner, Together
    from l2keras import AuditReport


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
        _open(store, waiting, together.size)
        _train(store, waiting, together, device_name)
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
        seat.outcome = ledger.settled(known[seat.config_hash], seat.config.rerun, seat.label)
    return [seat for seat in seats if seat.outcome is None]


def _open(store: Store, seats: Sequence[_Seat], size: int) -> None:
    """Claims the configs and opens their runs; those that another process holds are left out."""
    group = uuid.uuid4().hex[:8]
    for seat in seats:
        name = ledger.claim_name(store, seat.config_hash)
        seat.resources.enter_context(identity.claim(store.folder, name))
    known = ledger.find(store, [seat.config_hash for seat in seats])
    for seat in seats:
        config = seat.config
        resume = ledger.resumable(known[seat.config_hash], config.rerun)
        tags = run_tags(config, seat.config_hash) | {
            "vectorized": "true",
            "vectorized_group": group,
            "vectorized_size": str(size),
        }
        opened = store.run(seat.label, parent=config.tracking.parent, tags=tags, resume=resume)
        seat.run = seat.resources.enter_context(opened)


def _train(store: Store, seats: Sequence[_Seat], together: Together, device_name: str) -> None:
    reports: dict[Any, AuditReport] = {}
    for seat, runner in zip(seats, together.runners, strict=True):
        assert seat.run is not None
        record_start(seat.run, seat.node, seat.config, device_name)
        key = repr((seat.config.regularization, seat.config.optimizer))
        if key not in reports:  # the seed decides nothing of it
            reports[key] = together.audit(runner)
        seat.run.log_decay(reports[key])
        runner.checkpoint_path = store.folder / "checkpoints" / f"{seat.run.id}.together.npz"
        runner.resume()
    config = seats[0].config
    label = f"{len(seats)} runs at once"
    with progress.fit(config.training.epochs, label, config.training.progress) as advance:
        seconds = together.fit(_recorder(seats, advance)) / len(seats)
    for seat, runner in zip(seats, together.runners, strict=True):
        if seat.outcome is None:
            _finish(seat, runner, together, seconds)
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
    seat.outcome = Outcome(
        seat.label, seat.config_hash, "FAILED", run_id=run_id, metrics=metrics,
        failure=failed.failure,
    )  # fmt: skip


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
    seat.outcome = Outcome(
        seat.label, seat.config_hash, "FINISHED", run_id=run_id, metrics=last, seconds=seconds
    )


def _close_all(seats: Sequence[_Seat], error: BaseException) -> None:
    for seat in seats:
        seat.close(error)
