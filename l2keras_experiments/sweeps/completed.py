"""What the store knows of a config: whether it is done, who works on it, what to go on with."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from l2keras_experiments.config.schema import Rerun
from l2keras_experiments.runtime import durable
from l2keras_experiments.runtime.outcome import Outcome
from l2keras_experiments.sweeps import identity
from l2keras_experiments.tracking.recording import HASH_TAG, RESUMABLE_TAG
from l2keras_experiments.tracking.store import FAILURE_TAG, Store, launch_tag, patiently

_LAUNCH = launch_tag("")
_DEAD = "its process died without a word: killed (SIGKILL), or out of memory"


@dataclass(frozen=True)
class Entry:
    """A run of the store.

    Attributes:
        ended: Unix time in ms; None while it runs.
        launches: The ids of the parents whose launches it is part of.
        elsewhere: Whether a living process is at work on it, or one on other disks may be.
        resumable: Whether a later launch can go on with it.
        selection: The metric that ranks it, where its config names one.
    """

    run_id: str
    name: str
    config_hash: str
    status: str
    ended: int | None
    elsewhere: bool
    host: str
    launches: frozenset[str]
    failure: str | None
    metrics: Mapping[str, float]
    resumable: bool = True
    selection: str | None = None


Entries = Sequence[Entry]  # of one config, newest first


def claim_name(store: Store, config_hash: str) -> str:
    """What a process holds while it works on a config of a study."""
    return f"{store.experiment_id}-{config_hash}"


def find(store: Store, hashes: Iterable[str]) -> dict[str, list[Entry]]:
    """The runs of each config in the study, newest first."""
    found: dict[str, list[Entry]] = {told: [] for told in hashes}
    only = f" and tags.{HASH_TAG} = '{next(iter(found))}'" if len(found) == 1 else ""
    for run in _search(store, f"tags.kind = 'trial'{only}"):
        told = run.data.tags.get(HASH_TAG)
        if told in found:
            found[told].append(_entry(store, told, run))
    return found


def _search(store: Store, condition: str) -> Iterable[Any]:
    token: str | None = None
    while True:
        page = patiently(functools.partial(_page, store, condition, token))
        yield from page
        token = page.token
        if not token:
            return


def _page(store: Store, condition: str, token: str | None) -> Any:
    ids = [store.experiment_id]
    return store.client.search_runs(ids, condition, max_results=1000, page_token=token)


def _entry(store: Store, told: str, run: Any) -> Entry:
    running = run.info.status == "RUNNING"
    # None, no lock at all: a process on other disks, or one that has left something unsent.
    elsewhere = running and identity.is_claimed(store.folder, claim_name(store, told)) is not False
    tags = run.data.tags
    return Entry(
        run_id=run.info.run_id,
        name=run.info.run_name,
        config_hash=told,
        status=run.info.status,
        ended=None if running else run.info.end_time,
        elsewhere=elsewhere,
        host=tags.get("host", "an unknown host"),
        launches=frozenset(key.removeprefix(_LAUNCH) for key in tags if key.startswith(_LAUNCH)),
        failure=tags.get(FAILURE_TAG),
        metrics=run.data.metrics,
        resumable=tags.get(RESUMABLE_TAG) != "false",
        selection=run.data.params.get("training.selection"),
    )


def settled(entries: Entries, rerun: Rerun, label: str, *, claimed: bool = False) -> Outcome | None:
    """Why a config is not to be trained now, or None if it is.

    Where it is `claimed` by this process, no other one is at work on it.
    """
    if rerun is Rerun.all or not entries:
        return None
    told = entries[0].config_hash
    for entry in entries:
        if entry.status == "FINISHED":
            return Outcome(
                label, told, "SKIPPED", entry.run_id, entry.metrics, selection=entry.selection
            )
    for entry in entries:
        if entry.elsewhere and not claimed:
            why = f"at work on {entry.host}, it seems; rerun=all trains it all the same"
            return Outcome(label, told, "RUNNING", entry.run_id, entry.metrics, failure=why)
    if rerun is Rerun.none:
        why = entries[0].failure or "it has not finished; rerun=failed goes on with it"
        return Outcome(label, told, "FAILED", entries[0].run_id, entries[0].metrics, failure=why)
    return None


def resumable(entries: Entries, rerun: Rerun) -> str | None:
    """The run to go on with: the newest one that did not finish and can be resumed."""
    if rerun is Rerun.all:
        return None
    return next((e.run_id for e in entries if e.status != "FINISHED" and e.resumable), None)


def replace_interrupted(store: Store, entries: Entries, rerun: Rerun, label: str) -> None:
    """Ends the runs that a new one replaces, since none can go on with them; says so in a line.

    To be called by the process that has claimed their config.
    """
    if rerun is Rerun.all:
        return
    interrupted = [e for e in entries if e.status != "FINISHED" and not e.resumable]
    for entry in interrupted:
        if entry.status == "RUNNING":
            _buried(store, entry, _DEAD)
    if interrupted:
        durable.warn(
            f"{label} begins anew: its data come in batches, whose order cannot be resumed. "
            f"{interrupted[0].run_id} holds the epochs before."
        )


def bury(store: Store, entries: Entries, cause: str | None) -> list[Entry]:
    """Marks the runs of dead processes as FAILED; returns the entries as they are then."""
    return [_buried(store, one, cause or _DEAD) if _is_dead(one) else one for one in entries]


def _is_dead(entry: Entry) -> bool:
    return entry.status == "RUNNING" and not entry.elsewhere


def _buried(store: Store, entry: Entry, cause: str) -> Entry:
    patiently(lambda: store.client.set_tag(entry.run_id, FAILURE_TAG, cause))
    patiently(lambda: store.client.set_terminated(entry.run_id, "FAILED"))
    return replace(entry, status="FAILED", failure=cause)
