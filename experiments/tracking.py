"""The record of every run, in MLflow. The only module that imports mlflow.

Metrics are buffered and written in batches; a run ends FINISHED, FAILED (with its traceback)
or KILLED (Ctrl-C, SIGTERM), never in a lie.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from filelock import FileLock

from experiments.paths import PROJECT, RUNS

if TYPE_CHECKING:
    from l2keras import AuditReport

FLUSH_SECONDS = 5.0
DIGEST_TAG = "decay_digest"
_SQLITE = "sqlite:///"


class Terminated(BaseException):
    """SIGTERM came. Not an Exception, so that no handler on the way swallows it."""


def store_uri(configured: str | None) -> str:
    """The configured store, else $MLFLOW_TRACKING_URI, else sqlite in `runs/`; sqlite absolute."""
    uri = configured or os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{RUNS / 'mlflow.db'}"
    if uri.startswith(_SQLITE):
        return _SQLITE + str(Path(uri.removeprefix(_SQLITE)).absolute())
    return uri


def ui_command(uri: str) -> str:
    """The command that opens the MLflow UI on the store."""
    if urlparse(uri).scheme in ("http", "https"):
        return f"open {uri}"
    if uri == f"{_SQLITE}{RUNS / 'mlflow.db'}" and not os.environ.get("MLFLOW_TRACKING_URI"):
        return "make ui"
    return f"{sys.executable} -m mlflow ui --backend-store-uri {uri}"


class Store:
    """An MLflow store and one study (an MLflow experiment) in it, created on first use."""

    def __init__(self, uri: str | None, study: str) -> None:
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow", "l2keras"):  # the digest is a tag of the run
            logging.getLogger(name).setLevel(logging.WARNING)

        self.uri = store_uri(uri)
        with _creation_lock(self.uri):
            _create_database(self.uri)
            self.client = MlflowClient(tracking_uri=self.uri)
            self.experiment_id = self._get_or_create(study)

    def _get_or_create(self, study: str) -> str:
        experiment = self.client.get_experiment_by_name(study)
        if experiment is None:
            location = _artifact_location(self.uri)
            return str(self.client.create_experiment(study, artifact_location=location))
        if experiment.lifecycle_stage != "active":
            raise ValueError(
                f"The study must not be a deleted one. Received: tracking.study={study}. "
                "Choose another tracking.study, or restore it in the MLflow UI."
            )
        return str(experiment.experiment_id)

    @contextmanager
    def run(
        self, name: str, *, parent: Run | None = None, tags: Mapping[str, str] | None = None
    ) -> Iterator[Run]:
        """A run for the length of the block; its status tells how the block ended."""
        tags = {**_provenance(), **(tags or {})}
        if parent is not None:
            tags["mlflow.parentRunId"] = parent.id
        created = self.client.create_run(self.experiment_id, run_name=name, tags=tags)
        run = Run(self, str(created.info.run_id))
        with _sigterm_raises():
            try:
                yield run
            except (KeyboardInterrupt, Terminated):
                run.end("KILLED")
                raise
            except BaseException:
                run.log_text(traceback.format_exc(), "traceback.txt")
                run.end("FAILED")
                raise
            run.end("FINISHED")


@dataclass
class Run:
    """One MLflow run; metrics wait in a buffer until the next flush."""

    store: Store
    id: str
    _buffer: list[Any] = field(default_factory=list)
    _flushed: float = field(default_factory=time.monotonic)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Writes parameters, such as a flattened config; None is written as "null"."""
        from mlflow.entities import Param

        entities = [Param(k, "null" if v is None else str(v)) for k, v in params.items()]
        for start in range(0, len(entities), 100):  # MLflow takes 100 in a request
            self.store.client.log_batch(self.id, params=entities[start : start + 100])

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Buffers metrics of one step; writes the buffer when it is some seconds old."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._buffer += [Metric(key, float(v), now, step) for key, v in metrics.items()]
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what is buffered."""
        while self._buffer:
            batch = self._buffer[:1000]  # MLflow takes 1000 in a request
            self.store.client.log_batch(self.id, metrics=batch)
            del self._buffer[: len(batch)]
        self._flushed = time.monotonic()

    def log_text(self, text: str, artifact: str) -> None:
        self.store.client.log_text(self.id, text, artifact)

    def log_table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], name: str) -> None:
        """Writes a table that the MLflow UI shows as one; `name` ends in .json."""
        table = {"columns": list(columns), "data": [list(row) for row in rows]}
        self.store.client.log_dict(self.id, table, name)
        # What MLflow's own log_table sets, which takes a detour over pandas.
        tables = json.dumps([{"path": name, "type": "table"}])
        self.set_tags({"mlflow.loggedArtifacts": tables})

    def log_decay(self, report: AuditReport) -> None:
        """What is decayed, to compare runs by: the digest as a tag, the table as text and data."""
        self.set_tags({DIGEST_TAG: report.digest})
        self.log_text(report.to_text(width=120) + "\n", "decay_audit.txt")
        self.store.client.log_dict(self.id, report.to_dict(), "decay_audit.json")

    def log_file(self, path: Path, folder: str | None = None) -> None:
        self.store.client.log_artifact(self.id, str(path), folder)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.store.client.log_batch(self.id, tags=[RunTag(k, v) for k, v in tags.items()])

    def end(self, status: str) -> None:
        try:
            self.flush()
        finally:
            self.store.client.set_terminated(self.id, status)


def _artifact_location(uri: str) -> str | None:
    """Beside a sqlite database; a server decides for itself."""
    if not uri.startswith(_SQLITE):
        return None
    return (Path(uri.removeprefix(_SQLITE)).parent / "artifacts").as_uri()


@contextmanager
def _creation_lock(uri: str) -> Iterator[None]:
    """MLflow cannot have two processes create one sqlite database: one at a time."""
    if not uri.startswith(_SQLITE):
        yield
        return
    database = Path(uri.removeprefix(_SQLITE))
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock"):
        yield


def _create_database(uri: str) -> None:
    """Migrates a new sqlite database under another name: whoever is killed here leaves none."""
    database = Path(uri.removeprefix(_SQLITE))
    if not uri.startswith(_SQLITE) or database.exists():
        return
    from mlflow import MlflowClient

    new = database.with_name(f"{database.name}.new")
    new.unlink(missing_ok=True)
    MlflowClient(tracking_uri=f"{_SQLITE}{new}").search_experiments(max_results=1)
    new.replace(database)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turns SIGTERM into an exception, in the main thread, where Python handles signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(signum: int, frame: FrameType | None) -> None:
        raise Terminated("SIGTERM")

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _provenance() -> dict[str, str]:
    """The commit of the checkout and whether its tree was dirty; "unknown" outside git."""
    commit = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain")
    return {
        "git_commit": commit or "unknown",
        "git_dirty": "unknown" if status is None else str(bool(status)).lower(),
        # What MLflow's own columns show.
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": shlex.join(sys.orig_argv[1:]),
        "mlflow.source.git.commit": commit or "unknown",
    }


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(PROJECT), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
