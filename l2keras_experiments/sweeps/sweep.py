"""A sweep as a whole: what is left to do, one parent run over it, and what came of it."""

from __future__ import annotations

import hashlib
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from omegaconf import DictConfig

from l2keras_experiments.config import program
from l2keras_experiments.config.schema import Config, Rerun, run_label, varying
from l2keras_experiments.reports import views
from l2keras_experiments.runtime import progress
from l2keras_experiments.runtime.outcome import Outcome, describe
from l2keras_experiments.runtime.signals import Terminated
from l2keras_experiments.sweeps import completed
from l2keras_experiments.tracking import provenance, upload
from l2keras_experiments.tracking.run import Run
from l2keras_experiments.tracking.store import FAILURE_TAG, Store, launch_tag, ui_command

SWEEP_TAG = "sweep_hash"
WATCH_SECONDS = 5.0


@dataclass(frozen=True)
class Job:
    """One point of a sweep: the overrides that make it, and what they make."""

    overrides: tuple[str, ...]
    config_hash: str
    config: Config
    node: DictConfig

    @property
    def label(self) -> str:
        return run_label(self.config)


Launch = Callable[[Sequence[Job], str], Sequence[Outcome]]  # (jobs, parent's id) -> outcomes


@dataclass(frozen=True)
class Sweep:
    """Jobs to be run by `launch` under a parent called `name`.

    Attributes:
        watch: Whether to look into the store for how it goes, where `launch` does not tell.
        check: Raises ConfigError for jobs of which one cannot run, before any is recorded.
    """

    jobs: Sequence[Job]
    name: str
    launch: Launch
    watch: bool
    check: Callable[[Sequence[Job]], None] = lambda jobs: None

    def run(self) -> bool:
        """Launches the runs that are not done; shows and records all. True if any run failed.

        Raises:
            ConfigError: `check` found a mistake.
        """
        config = self.jobs[0].config
        store = Store(config.tracking.uri, config.tracking.study)
        upload.send_pending(store)
        known = completed.find(store, [job.config_hash for job in self.jobs])
        settled = self._settled(known)
        todo = [job for job in self.jobs if job.config_hash not in settled]
        self.check(todo)
        earlier = self._earlier(store)
        tags = {"kind": "sweep", SWEEP_TAG: self._hash()}
        if earlier is None:  # a later command may train nothing, as under rerun=none
            tags["sweep_command"] = provenance.command()
        with store.run(self.name, tags=tags, resume=earlier) as parent:
            parent.log_params(self._params())
            _adopt(store, parent, known)
            print(f"{len(self.jobs)} runs, {len(settled)} of them settled before", file=sys.stderr)
            try:
                returned = self._launch(store, parent, todo, known) if todo else []
            except (KeyboardInterrupt, Terminated):
                print("Stopped. The same command goes on from here.", file=sys.stderr)
                raise
            outcomes = self._gather(store, settled, returned, known)
            self._record(store, parent, outcomes)
        _show(outcomes, store, parent.id, config.rerun)
        return any(outcome.failed for outcome in outcomes)

    def _settled(self, known: Mapping[str, completed.Entries]) -> dict[str, Outcome]:
        found = {}
        for job in self.jobs:
            entries = known[job.config_hash]
            outcome = completed.settled(entries, job.config.rerun, job.label)
            if outcome is not None:
                found[job.config_hash] = outcome
        return found

    def _hash(self) -> str:
        text = " ".join(sorted(job.config_hash for job in self.jobs))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _earlier(self, store: Store) -> str | None:
        """The parent of the same sweep, launched before."""
        condition = f"tags.{SWEEP_TAG} = '{self._hash()}'"
        found = store.client.search_runs([store.experiment_id], condition, max_results=1)
        return str(found[0].info.run_id) if found else None

    def _params(self) -> dict[str, str]:
        """What the sweep varies, and the values."""
        values = varying([job.config for job in self.jobs])
        texts = {key: ", ".join(map(str, found)) for key, found in values.items()}
        return {key: textwrap.shorten(text, 500) for key, text in texts.items()}

    def _launch(
        self,
        store: Store,
        parent: Run,
        todo: Sequence[Job],
        known: Mapping[str, completed.Entries],
    ) -> Sequence[Outcome]:
        board = progress.SweepBoard(len(todo), self.jobs[0].config.training.progress)
        watched = _watched(store, board, todo, known) if self.watch else nullcontext()
        with board.open(), watched:
            try:
                return self.launch(todo, parent.id)
            except Exception as error:  # the launcher's; a job's own is an outcome
                print(f"The launcher failed: {describe(error)}", file=sys.stderr)
                return []

    def _gather(
        self,
        store: Store,
        settled: Mapping[str, Outcome],
        returned: Sequence[Outcome],
        known: Mapping[str, completed.Entries],
    ) -> list[Outcome]:
        """How every run stands now: as settled before, as its job tells, or as the store does."""
        told = {outcome.config_hash: outcome for outcome in returned}
        found = completed.find(store, [job.config_hash for job in self.jobs])
        outcomes = []
        for job in self.jobs:
            key = job.config_hash
            before = known[key] if job.config.rerun is Rerun.all else ()
            ids = {entry.run_id for entry in before}
            entries = [entry for entry in found[key] if entry.run_id not in ids]
            outcome = settled.get(key) or told.get(key)
            if outcome is None or outcome.run_id is None:
                outcome = _from_store(store, job, entries, outcome) or outcome or _lost(job)
            outcomes.append(outcome)
        return outcomes

    def _record(self, store: Store, parent: Run, outcomes: Sequence[Outcome]) -> None:
        """The counts, the table and the figures, in the parent."""
        failed = sum(outcome.failed for outcome in outcomes)
        finished = sum(outcome.status in ("FINISHED", "SKIPPED") for outcome in outcomes)
        parent.log_summary(
            {"runs": len(outcomes), "runs_finished": finished, "runs_failed": failed}
        )
        if failed:
            parent.final_status = "FAILED"
            parent.set_tags({FAILURE_TAG: f"{failed} of {len(outcomes)} runs failed"})
        parent.flush()  # the report reads them
        if finished:
            _report(store, parent, [outcome.config_hash for outcome in outcomes])


def _adopt(store: Store, parent: Run, known: Mapping[str, completed.Entries]) -> None:
    """Marks what earlier launches finished as part of this one; it stays part of those."""
    for entries in known.values():
        for entry in entries:
            if entry.status == "FINISHED" and parent.id not in entry.launches:
                store.client.set_tag(entry.run_id, launch_tag(parent.id), "true")


def _lost(job: Job) -> Outcome:
    why = "it came to no run: the launcher or its process ended before"
    return Outcome(job.label, job.config_hash, "FAILED", failure=why)


def _from_store(
    store: Store, job: Job, entries: completed.Entries, told: Outcome | None
) -> Outcome | None:
    """How a run ended of which its job tells nothing: it was on its own, or killed."""
    entries = completed.bury(store, entries, told.failure if told else None)
    if not entries:
        return None
    best = next((entry for entry in entries if entry.status == "FINISHED"), entries[0])
    return Outcome(
        job.label,
        job.config_hash,
        best.status,
        best.run_id,
        best.metrics,
        failure=best.failure,
        selection=best.selection,
    )


def _report(store: Store, parent: Run, hashes: Sequence[str]) -> None:
    """Leaderboard and page. The runs are safe, whatever becomes of them."""
    from l2keras_experiments.reports import report

    command = program.command("report", store.study, "--parent", parent.id)
    try:
        written = report.write(store, parent.id, hashes, report.default_folder(store, parent.id))
        report.show(written.study)
        print(f"page: {written.page}")
    except Exception as error:
        print(
            f"No report was made ({describe(error)}). To try again: {command}",
            file=sys.stderr,
        )


def _show(outcomes: Sequence[Outcome], store: Store, parent: str, rerun: Rerun) -> None:
    """What failed and why, and where the rest is."""
    failed = [outcome for outcome in outcomes if outcome.failed]
    good = sum(outcome.status in ("FINISHED", "SKIPPED") for outcome in outcomes)
    print(f"{good} of {len(outcomes)} runs finished in study {store.study!r} of {store.uri}")
    for outcome in (outcome for outcome in outcomes if outcome.status == "RUNNING"):
        print(f"  {progress.line(outcome)}")
    if failed:
        again = "rerun=failed" if rerun is Rerun.none else "the same command"
        print(f"{len(failed)} failed; {again} tries them again:")
    for outcome in failed:
        print(f"  {progress.line(outcome)}")
        if outcome.run_id:
            print(f"    traceback.txt of MLflow run {outcome.run_id}")
        elif outcome.details:
            print(outcome.details)
    print(f"MLflow UI: {ui_command(store.uri)}")
    if good:
        views.show(store, parent)


@contextmanager
def _watched(
    store: Store,
    board: progress.SweepBoard,
    todo: Sequence[Job],
    known: Mapping[str, completed.Entries],
) -> Iterator[None]:
    """Shows, now and then, how many of the runs are over, where they run in other processes.

    What had ended before is `known`, and may have to be run again.
    """
    over = threading.Event()
    hashes = [job.config_hash for job in todo]
    before = {(entry.run_id, entry.ended) for entries in known.values() for entry in entries}

    def watch() -> None:
        pause = WATCH_SECONDS
        while not over.wait(pause):
            start = time.monotonic()
            newest = [entries[0] for entries in completed.find(store, hashes).values() if entries]
            ended = [e for e in newest if e.ended and (e.run_id, e.ended) not in before]
            board.watch(len(ended), sum(e.status != "FINISHED" for e in ended))
            pause = max(WATCH_SECONDS, 20 * (time.monotonic() - start))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
