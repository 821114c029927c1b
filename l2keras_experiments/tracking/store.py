"""The record of every run, in MLflow, which only this package imports.

What a run logs goes through an outbox, so that training never waits and nothing is lost; a run
ends FINISHED, FAILED (with its traceback) or KILLED (Ctrl-C, SIGTERM), never in a lie.
"""

from __future__ import annotations

import functools
import logging
import os
import shlex
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from l2keras_experiments.config import credentials, program
from l2keras_experiments.config.paths import RUNS
from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.runtime import signals
from l2keras_experiments.runtime.naming import component
from l2keras_experiments.runtime.outcome import describe
from l2keras_experiments.runtime.signals import Terminated
from l2keras_experiments.tracking import database, models, outbox, provenance, run
from l2keras_experiments.tracking.outbox import Rejected
from l2keras_experiments.tracking.run import Run

FAILURE_TAG = "failure"
# Of a run that was trained at once with others: how many, and which. Set anew by every launch.
VECTORIZED_TAGS = ("vectorized", "vectorized_group", "vectorized_size")
# One at a time in this process: where many runs are open, they would wait for MLflow's few
# connections, and sqlite has but one writer.
_WRITING = threading.Lock()
_DEFAULT = f"{database.PREFIX}{RUNS / 'mlflow.db'}"
# What MLflow answers where trying again is of no use.
_FINAL = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS",
          "INVALID_STATE", "PERMISSION_DENIED"}  # fmt: skip


def store_uri(configured: str | None) -> str:
    """The configured store, else $MLFLOW_TRACKING_URI, else sqlite in `runs/`; sqlite absolute."""
    uri = configured or os.environ.get("MLFLOW_TRACKING_URI") or _DEFAULT
    uri = credentials.revealed(uri)
    file = database.path_of(uri)
    return uri if file is None else f"{database.PREFIX}{file.absolute()}"


def launch_tag(parent: str) -> str:
    """Tag of every run that a launch is about: its own, and those that earlier ones finished.

    Args:
        parent: The id of the launch's parent run.
    """
    return f"launch.{parent}"


def ui_command(uri: str) -> str:
    """The command that opens the MLflow UI on the store; whoever types it adds the password.

    It is `l2keras ui`: the plain `mlflow ui` opens an experiment on a page about traces.
    """
    if uri.startswith(("http://", "https://")):
        return f"open {credentials.page(uri)}"
    if uri == _DEFAULT and not os.environ.get("MLFLOW_TRACKING_URI"):
        return program.command("ui") if program.in_console() else "make ui"
    words = [sys.executable, *program.words("ui")[1:]]
    command = program.command("ui") if program.in_console() else shlex.join(words)
    return f"MLFLOW_TRACKING_URI={shlex.quote(credentials.masked_address(uri))} {command}"


def check_ui_flags(flags: Sequence[str]) -> None:
    """Raises ConfigError for flags that `mlflow ui` does not take."""
    import click

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow about itself
        from mlflow.cli import cli

    ui: Any = cli.get_command(click.Context(cli), "ui")
    try:
        given = ui.make_context("ui", list(flags)).params
        if not str(given.get("workers") or 1).isdecimal():  # which only its server looks at
            raise click.UsageError(f"--workers {given['workers']}, which is no number.")
    except click.ClickException as error:
        raise ConfigError(
            f"The flags must be those of `mlflow ui`. Received: {error.format_message()} "
            "--help shows them."
        ) from None


def patiently(call: Callable[[], Any]) -> Any:
    """What `call` returns; a store that is away is asked again, for `PATIENCE` seconds."""
    from mlflow.exceptions import MlflowException

    end, pause = time.monotonic() + run.PATIENCE, outbox.FIRST_PAUSE
    while True:
        try:
            return call()
        except MlflowException as error:
            if error.error_code in _FINAL or time.monotonic() > end:
                raise
        time.sleep(pause)
        pause = min(2 * pause, outbox.LONGEST_PAUSE)


def load_client() -> Any:
    """MLflow's client class, imported (5 s) and told to be quiet and quick to give up."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a run asks no one but its store
    # The outbox tries again itself; a call that hangs would hold it up.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # In a log file, bars that are drawn again and again, and two lines of a run's own, hide ours.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow", "l2keras"):  # the digest is a tag of the run
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("urllib3.connectionpool", "mlflow.utils.databricks_utils"):  # the error says it
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient


class Store:
    """An MLflow store and one study (an MLflow experiment) in it, created on first use.

    Args:
        patient: Whether to wait for a store that does not answer: one that did so before.

    Attributes:
        uri: Its address, masked.
        folder: For what belongs to the runs but not into MLflow: checkpoints, locks, what could
            not be sent. Beside a sqlite database, else in `runs/`; shared by all processes.

    Raises:
        ConfigError: the store cannot be opened, or the study has been deleted.
    """

    def __init__(self, uri: str | None, study: str, *, patient: bool = False) -> None:
        client = load_client()
        self._address = store_uri(uri)
        self.uri = credentials.masked_address(self._address)
        self.study = study
        self._infos: dict[str, Any] = {}  # by run
        self._created: set[str] = set()  # runs that no one else can have given a model
        database.check(self._address)
        file = database.path_of(self._address)
        self.folder = (file.parent if file else RUNS) / "state"
        with _told(self._address), database.creation_lock(file):
            database.create(
                file, lambda new: client(tracking_uri=new).search_experiments(max_results=1)
            )
            self.client = client(tracking_uri=self._address)
            get = functools.partial(self._get_or_create, study)
            self.experiment_id: str = patiently(get) if patient else get()

    def _get_or_create(self, study: str) -> str:
        experiment = self.client.get_experiment_by_name(study)
        if experiment is None:
            location = _artifact_location(self._address)
            try:
                return str(self.client.create_experiment(study, artifact_location=location))
            except Exception:  # another process of a server's was faster
                experiment = self.client.get_experiment_by_name(study)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage != "active":
            raise ConfigError(
                f"The study must not be a deleted one. Received: tracking.study={study}. "
                "Choose another tracking.study, or restore it in the MLflow UI."
            )
        return str(experiment.experiment_id)

    @contextmanager
    def run(
        self,
        name: str,
        *,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
        resume: str | None = None,
        system_metrics: bool = False,
    ) -> Iterator[Run]:
        """A run for the length of the block; its status tells how the block ended.

        Args:
            name: What the UI shows.
            parent: The id of the run that it hangs under.
            tags: Its own, beside those of `provenance`.
            resume: The id of a run to go on with, instead of a new one.
            system_metrics: Whether to record the load of the machine, every ten seconds.
        """
        tags = {**provenance.tags(), **(tags or {})}
        if parent is not None:
            tags |= {"mlflow.parentRunId": parent, launch_tag(parent): "true"}
        with signals.stoppable():
            opened = self._open(name, tags, resume)
            try:
                with _monitor(opened) if system_metrics else nullcontext():
                    yield opened
            except (KeyboardInterrupt, Terminated):
                opened.end("KILLED", signals.left(outbox.HURRY_SECONDS))
                raise
            except Rejected:
                opened.end("FAILED")
                raise
            except BaseException as error:
                with suppress(Rejected):  # which is no reason to leave it RUNNING
                    opened.set_tags({FAILURE_TAG: describe(error)})
                    text = credentials.masked(traceback.format_exc())
                    opened.log_text(text, "traceback.txt")
                opened.end("FAILED")
                raise
            opened.end(opened.final_status)

    def _open(self, name: str, tags: Mapping[str, str], resume: str | None) -> Run:
        client = self.client
        if resume is None:
            create = functools.partial(client.create_run, run_name=name, tags=dict(tags))
            info = patiently(lambda: create(self.experiment_id)).info
            self._infos[info.run_id] = info
            self._created.add(info.run_id)
            return Run(self, str(info.run_id))
        opened: Run = patiently(functools.partial(self._reopen, resume))
        opened.set_tags(tags)
        return opened

    def _reopen(self, run_id: str) -> Run:
        self.client.update_run(run_id, status="RUNNING")
        found = self.client.get_run(run_id)
        self._infos[run_id] = found.info
        for tag in {FAILURE_TAG, *VECTORIZED_TAGS} & found.data.tags.keys():
            self.client.delete_tag(run_id, tag)  # of the launch before
        return Run(self, run_id, known=found)

    def spill(self, run_id: str) -> Path:
        """The file for what could not be sent of a run."""
        return self.folder / "unsent" / f"{component(run_id)}.jsonl"

    def write(
        self, run_id: str, operations: Sequence[outbox.Operation], spill: Path | None = None
    ) -> None:
        """Writes operations of an outbox; for metrics and params, twice is as good as once.

        Args:
            run_id: MLflow's.
            operations: In order.
            spill: Where they come from, with their files beside it; by default `self.spill`.

        Raises:
            Rejected: the store will never take them.
        """
        from mlflow.exceptions import MlflowException

        spool = outbox.spool_of(spill or self.spill(run_id))
        try:
            with _WRITING:
                self._write(run_id, outbox.merged(operations), spool)
        except MlflowException as error:
            if error.error_code in _FINAL:
                raise Rejected(f"The store refuses what is written: {error}") from error
            raise

    def _write(self, run_id: str, batch: outbox.Batch, spool: Path) -> None:
        from mlflow.entities import Metric, Param, RunTag

        # The newest first: MLflow keeps the latest of each, and writes it over with a later one.
        newest = sorted(batch.metrics, key=lambda row: row[3], reverse=True)
        metrics = [Metric(*row[:3], step=row[3]) for row in newest]
        params = [Param(key, value) for key, value in batch.params.items()]
        tags = [RunTag(key, value) for key, value in batch.tags.items()]
        while metrics or params or tags:  # what MLflow takes in a request: 1,000, of these 100
            self.client.log_batch(
                run_id, metrics=metrics[:800], params=params[:100], tags=tags[:100]
            )
            metrics, params, tags = metrics[800:], params[100:], tags[100:]
        if batch.texts or batch.files:
            self._write_artifacts(run_id, batch, spool)
        if batch.inputs:
            self.client.log_inputs(run_id, datasets=[models.dataset_input(i) for i in batch.inputs])
        if batch.model is not None:
            self._write_model(run_id, batch.model, spool)
        if batch.status is not None:
            self.client.set_terminated(run_id, batch.status)

    def _write_artifacts(self, run_id: str, batch: outbox.Batch, spool: Path) -> None:
        """Where they go, the client asks the store in every run, which reads all of the run."""
        artifacts = self._artifacts(self._info(run_id).artifact_uri)
        if batch.texts:
            with tempfile.TemporaryDirectory() as folder:
                for name, text in batch.texts.items():
                    path = Path(folder, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text, encoding="utf-8")
                artifacts.log_artifacts(folder)
        for name, place, digest in batch.files:
            artifacts.log_artifact(str(outbox.spooled(spool, name, digest)), place)

    def _info(self, run_id: str) -> Any:
        if run_id not in self._infos:  # of another process
            self._infos[run_id] = self.client.get_run(run_id).info
        return self._infos[run_id]

    def _artifacts(self, where: str) -> Any:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(where, tracking_uri=self._address)

    def _write_model(self, run_id: str, about: Mapping[str, Any], spool: Path) -> None:
        """Writes the run's model: its only one, also where this is tried again."""
        file = outbox.spooled(spool, about["file"], about["digest"])
        logged = self._logged_model(run_id)
        artifacts = self._artifacts(logged.artifact_location)
        with tempfile.TemporaryDirectory() as folder:
            models.write(Path(folder), about, run_id, logged, file.stat().st_size)
            artifacts.log_artifacts(folder)
        artifacts.log_artifact(str(file), models.DATA)
        self.client.finalize_logged_model(logged.model_id, "READY")

    def _logged_model(self, run_id: str) -> Any:
        """The run's model in the store, made where it has none, and among the run's outputs."""
        from mlflow.entities import LoggedModelOutput

        experiment = self._info(run_id).experiment_id
        found, linked = [], False
        if run_id in self._created:
            self._created.remove(run_id)
        else:
            found = self.client.search_logged_models(
                [experiment], filter_string=f"source_run_id = '{run_id}'", max_results=1
            )
            outputs = self.client.get_run(run_id).outputs
            linked = bool(outputs and outputs.model_outputs)
        logged = (
            found[0]
            if found
            else self.client.create_logged_model(experiment, models.NAME, source_run_id=run_id)
        )
        if not linked:
            self.client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        return logged


def _monitor(run: Run) -> AbstractContextManager[None]:
    from l2keras_experiments.tracking import system_metrics

    return system_metrics.monitored(run)


def opened(uri: str | None, study: str, *, patient: bool = False) -> Store:
    """The study in the store; it is opened once in a process that has many runs in it."""
    return _opened(store_uri(uri), study, patient)


@functools.lru_cache(maxsize=1)
def _opened(uri: str, study: str, patient: bool) -> Store:
    return Store(uri, study, patient=patient)


def check_parent(uri: str | None, run_id: str) -> None:
    """Raises ConfigError where the store has no run with this id; creates nothing."""
    address = store_uri(uri)
    file = database.path_of(address)
    there = file is None or file.exists()
    if there:
        from mlflow.exceptions import MlflowException

        with _told(address):
            client = load_client()(tracking_uri=address)
            try:
                patiently(lambda: client.get_run(run_id))
                return
            except MlflowException as error:
                if error.error_code not in _FINAL:
                    raise
    shown = credentials.masked_address(address)
    raise ConfigError(
        "`tracking.parent` must be a run of the store. "
        f"Received: tracking.parent={run_id}, which {shown} does not have. "
        "The MLflow UI shows the id on the page of the run."
    )


def _artifact_location(uri: str) -> str | None:
    """Beside a sqlite database; a server decides for itself."""
    file = database.path_of(uri)
    return None if file is None else (file.parent / "artifacts").as_uri()


@contextmanager
def _told(uri: str) -> Iterator[None]:
    """Whatever a client, a driver or a disk has against the store is told in one line."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            "`tracking.uri`, or MLFLOW_TRACKING_URI, must be an MLflow store that answers. "
            f"Received: {credentials.masked_address(uri)} ({describe(error)})."
        ) from error
