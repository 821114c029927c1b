"""What MLflow knows about the runs of a study, as plain records: read once, then only looked at."""

from __future__ import annotations

import difflib
import itertools
import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2keras_experiments.config import credentials, methods, program
from l2keras_experiments.config.schema import ConfigError, check_run_id
from l2keras_experiments.tracking import database
from l2keras_experiments.tracking.provenance import COMMAND_TAG
from l2keras_experiments.tracking.store import Store, store_uri

History = dict[int, float]  # epoch to value
MEMBERS = "members.json"  # artifact of a sweep's parent: the config hashes of its runs
ANY_STUDY = "Default"  # the one that every MLflow store has from the start
SWEEPS = "tags.kind = 'sweep'"


class StudyError(ConfigError):
    """A study that cannot be read; the message is one line for the user."""


@dataclass(frozen=True)
class Record:
    """One MLflow run as it stood when it was read.

    Attributes:
        status: FINISHED, FAILED, KILLED or RUNNING.
        metrics: The last value of each.
        start: Unix time in seconds.
        end: The same; None while it runs.
    """

    id: str
    name: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    start: float
    end: float | None

    @property
    def method(self) -> str:
        """As it is typed; a run that has not begun has only the label of its tag."""
        return self.params.get("regularization.name") or methods.name(self.tags.get("method", ""))

    @property
    def selection(self) -> tuple[str, bool] | None:
        """The metric that ranks it, and whether higher is better; None for that of the task.

        A trial of a search is ranked as the search does.
        """
        metric, mode = self.params.get("training.selection"), self.params.get("selection_mode")
        if metric is None or mode is None:
            return ("val_data_loss", False) if "trial" in self.tags else None
        return metric, mode == "max"

    @property
    def loss(self) -> frozenset[tuple[str, str]]:
        """The loss that it minimizes, with its arguments."""
        keys = [key for key in self.params if key.startswith("training.loss")]
        return frozenset((key, self.params[key]) for key in keys)

    @property
    def is_trial(self) -> bool:
        """Whether it is a training run to be compared with others.

        The arms of a comparison have a page of their own; what a search has pruned was not
        trained to its end.
        """
        if "arm" in self.tags or "pruned" in self.tags:
            return False
        return self.tags.get("kind", "trial" if self.method else "") == "trial"

    @property
    def is_search(self) -> bool:
        """Whether it is the parent of the trials of a search."""
        return self.tags.get("kind") == "tuning"

    @property
    def parent(self) -> str | None:
        return self.tags.get("mlflow.parentRunId")

    @property
    def config_hash(self) -> str | None:
        return self.tags.get("config_hash")

    @property
    def command(self) -> str:
        """What was typed: the sweep's command, else that of the run's process."""
        return self.tags.get("sweep_command") or self.tags.get(COMMAND_TAG) or self._source

    @property
    def _source(self) -> str:
        """The command as older versions have recorded it, with and without the interpreter."""
        source = self.tags.get("mlflow.source.name", "")
        named = not source or source.split()[0] in ("python", program.CONSOLE)
        return source if named else f"python {source}"

    def number(self, key: str) -> float:
        """A parameter or the last value of a metric; nan if it has neither or is no number.

        The store keeps an infinity as the largest double, which becomes an infinity again.
        """
        try:
            value = float(self.metrics[key] if key in self.metrics else self.params[key])
        except (KeyError, ValueError):
            return math.nan
        return math.copysign(math.inf, value) if abs(value) > 1e308 else value


def open_study(uri: str | None, study: str | None, parent: str | None = None) -> Store:
    """The store at an existing study.

    Args:
        uri: Of the store; None for the configured one.
        study: By default that of `parent`, else of the newest sweep, else `l2keras`.
        parent: The id of a run.

    Raises:
        StudyError: no such store or study; nothing is created.
    """

    address = store_uri(uri)
    shown = credentials.masked_address(address)
    database.check(address, "--uri")
    if parent is not None:
        check_run_id("--parent", parent)
    file = database.path_of(address)
    if file is not None and not (file.exists() and file.stat().st_size):
        raise StudyError(
            f"The store must exist. Received: {shown}. "
            f"Run `{program.command('train')}` first, or pass --uri."
        )
    any_store = Store(uri, ANY_STUDY)
    experiments = {e.name: e.experiment_id for e in any_store.client.search_experiments()}
    wanted = SWEEPS if parent is None else f"attributes.run_id = '{parent}'"
    name = study or _newest(any_store, experiments, wanted) or "l2keras"
    if name not in experiments:
        near = difflib.get_close_matches(name, experiments, n=3, cutoff=0.4)
        known = sorted(set(experiments) - {ANY_STUDY})
        hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(known)}."
        raise StudyError(f"There is no such study in {shown}. Received: {name}. {hint}")
    return Store(uri, name)


def _newest(store: Store, experiments: Mapping[str, str], wanted: str) -> str | None:
    """The study of the newest run that a filter finds."""
    newest = store.client.search_runs(
        list(experiments.values()),
        filter_string=wanted,
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    ids = {identifier: name for name, identifier in experiments.items()}
    return ids[newest[0].info.experiment_id] if newest else None


def sweeps(store: Store) -> list[str]:
    """The ids of the study's sweeps, newest first."""
    found = store.client.search_runs([store.experiment_id], filter_string=SWEEPS)
    return [run.info.run_id for run in found]


def read(store: Store) -> list[Record]:
    """Every run of the store's study, oldest first."""
    return sorted((_record(run) for run in _pages(store)), key=lambda record: record.start)


def _pages(store: Store) -> Iterator[Any]:
    token = None
    while True:
        page = store.client.search_runs([store.experiment_id], max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _record(run: Any) -> Record:
    info, data = run.info, run.data
    return Record(
        id=info.run_id,
        name=info.run_name,
        status=info.status,
        tags=data.tags,
        params=data.params,
        metrics=data.metrics,
        start=info.start_time / 1000,
        end=info.end_time / 1000 if info.end_time else None,
    )


def members(store: Store, records: Iterable[Record], parent: str) -> list[Record]:
    """The training runs of a sweep: its children, and what it skipped as finished before.

    Raises:
        StudyError: the study has no such run.
    """
    records = list(records)
    asked = next((record for record in records if record.id == parent), None)
    if asked is None:
        raise StudyError(
            f"The parent must be a run of the study. Received: {parent}. Leave --parent out for "
            "the whole study, or pass the study that has it."
        )
    if asked.tags.get("kind") == "comparison":
        raise StudyError(
            f"The parent must be a sweep or a search. Received: {parent}, a comparison. Its page "
            "is the artifact comparison.html; leave --parent out for the study's other runs."
        )
    hashes = _member_hashes(store, parent)
    return [r for r in records if r.is_trial and (r.parent == parent or r.config_hash in hashes)]


def _member_hashes(store: Store, parent: str) -> set[str]:
    if MEMBERS not in {file.path for file in store.client.list_artifacts(parent)}:
        return set()
    with tempfile.TemporaryDirectory() as folder:  # MLflow's own is never deleted
        path = Path(store.client.download_artifacts(parent, MEMBERS, folder))
        try:
            hashes = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            hashes = None
    if not (isinstance(hashes, list) and all(isinstance(found, str) for found in hashes)):
        raise StudyError(
            f"{MEMBERS} of a sweep must be a list of config hashes. Received: another content, in "
            f"run {parent}. Leave --parent out for the whole study."
        )
    return set(hashes)


def histories(
    store: Store, runs: Iterable[Record], metrics: Iterable[str]
) -> dict[tuple[str, str], History]:
    """The values over the epochs, by (run id, metric)."""
    chosen = list(runs)
    found: dict[tuple[str, str], History] = {}
    for key in metrics:
        ids = [record.id for record in chosen if key in record.metrics]
        found |= {(run_id, key): values for run_id, values in _by_run(store, ids, key)}
    return found


def _by_run(store: Store, run_ids: Sequence[str], key: str) -> Iterator[tuple[str, History]]:
    """The history of one metric, run by run.

    A database is asked once for many runs; a server, whose interface has no such question, once
    for each of them, several at a time.
    """
    ask = getattr(store.client._tracking_client.store, "get_metric_history_bulk", None)
    if ask is None:
        with ThreadPoolExecutor(8) as pool:
            told = pool.map(lambda one: store.client.get_metric_history(one, key), run_ids)
            yield from zip(run_ids, map(_steps, told), strict=True)
        return
    for start in range(0, len(run_ids), 500):  # what SQL takes in a list
        rows = ask(run_ids[start : start + 500], key, 10_000_000)  # sorted by run
        for run_id, metrics in itertools.groupby(rows, key=lambda row: row.run_id):
            yield run_id, _steps(metrics)


def _steps(metrics: Iterable[Any]) -> History:
    return {metric.step: metric.value for metric in metrics}
