"""One run of the record: what it logs goes into an outbox, so that training never waits."""

from __future__ import annotations

import json
import shutil
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l2keras_experiments.config import credentials, program
from l2keras_experiments.runtime import signals
from l2keras_experiments.tracking import outbox, provenance
from l2keras_experiments.tracking.outbox import Outbox

if TYPE_CHECKING:
    from l2keras import AuditReport
    from l2keras_experiments.tracking.store import Store

DIGEST_TAG = "decay_digest"
MODEL_FILE = "model.keras"  # as MLflow calls it
PATIENCE = 180.0  # seconds that the end of a run waits for a store that is away


class Run:
    """One MLflow run. What it logs is written by the outbox, soon."""

    def __init__(self, store: Store, run_id: str, known: Any = None) -> None:
        self.store = store
        self.id = run_id
        self.final_status = "FINISHED"  # where no exception ends it
        self.spill = store.spill(run_id)
        self._launch = uuid.uuid4().hex  # what an earlier launch has left stays as it is
        self._files = 0
        self._params: set[str] = set(known.data.params) if known else set()
        self._steps = {k: _steps(store, run_id, k) for k in known.data.metrics} if known else {}
        self._outbox = Outbox(lambda operations: store.write(run_id, operations), self.spill)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Writes parameters, such as a flattened config; None is written as "null".

        What a resumed run has already, stays.
        """
        new = {k: "null" if v is None else str(v) for k, v in params.items()}
        new = {key: value for key, value in new.items() if key not in self._params}
        self._outbox.put("params", new)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Metrics of one step; a step that a resumed run has already is not written again."""
        now = int(time.time() * 1000)
        new = {k: v for k, v in metrics.items() if step not in self._steps.get(k, ())}
        self._outbox.put("metrics", [[key, float(v), now, step] for key, v in new.items()])

    def next_step(self, prefix: str) -> int:
        """The first step that no metric of this prefix has: 0 but in a resumed run."""
        steps = (s for key, found in self._steps.items() if key.startswith(prefix) for s in found)
        return 1 + max(steps, default=-1)

    def log_summary(self, metrics: Mapping[str, float]) -> None:
        """Metrics that take the place of those that an earlier launch has written."""
        now = int(time.time() * 1000)
        self._outbox.put("metrics", [[key, float(v), now, 0] for key, v in metrics.items()])

    def log_inputs(self, described: Sequence[Mapping[str, str]]) -> None:
        """Writes which data the run reads, as `data.description.describe` tells it."""
        self._outbox.put("inputs", [dict(one) for one in described])

    def log_model(self, model: Any, x: Any) -> None:
        """Writes a Keras model as an MLflow model, with the signature that it is served with.

        Args:
            model: A built model.
            x: Examples that it was trained on, for the types and shapes of its inputs.
        """
        from l2keras_experiments.training import saving

        name = self._spooled(MODEL_FILE)
        model.save(self._spool / name)
        about = {
            "file": name,
            "digest": outbox.digest_of(self._spool / name),
            "inputs": saving.input_specs(model, x),
            "outputs": saving.output_specs(model),
            "modules": saving.own_modules(model),
            "versions": provenance.versions(),
        }
        self._outbox.put("model", about)

    def log_text(self, text: str, artifact: str) -> None:
        self._outbox.put("text", [artifact, text])

    def log_table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], name: str) -> None:
        """Writes a table that the MLflow UI shows as one; `name` ends in .json."""
        self.log_dict({"columns": list(columns), "data": [list(row) for row in rows]}, name)
        # What MLflow's own log_table sets, which takes a detour over pandas.
        self.set_tags({"mlflow.loggedArtifacts": json.dumps([{"path": name, "type": "table"}])})

    def log_dict(self, content: Mapping[str, Any], name: str) -> None:
        self.log_text(json.dumps(content, indent=2), name)

    def log_decay(self, report: AuditReport) -> None:
        """What is decayed, to compare runs by: the digest as a tag, the table as text and data."""
        self.set_tags({DIGEST_TAG: report.digest})
        self.log_text(report.to_text(width=120) + "\n", "decay_audit.txt")
        self.log_dict(report.to_dict(), "decay_audit.json")

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Writes a copy of a file as it is now."""
        name = self._spooled(path.name)
        shutil.copyfile(path, self._spool / name)
        self._put_file(name, folder)

    def _trouble(self) -> str:
        return credentials.masked(str(self._outbox.trouble))

    @property
    def _spool(self) -> Path:
        return outbox.spool_of(self.spill)

    def _spooled(self, file: str) -> str:
        """A new name in the spool; its folder is there."""
        self._files += 1
        folder = Path(self._launch, str(self._files))
        (self._spool / folder).mkdir(parents=True)
        return (folder / file).as_posix()

    def _put_file(self, name: str, folder: str | None) -> None:
        self._outbox.put("file", [name, folder, outbox.digest_of(self._spool / name)])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._outbox.put("tags", dict(tags))

    def flush(self, patience: float | None = None) -> bool:
        """Waits until the store has everything; False if it has not after `patience` seconds."""
        return self._outbox.flush(_or_default(patience), signals.requested)

    def end(self, status: str, patience: float | None = None) -> None:
        """Writes what is left and the status; what the store does not take goes into a file.

        Raises:
            Rejected: the store has refused something of a run that was to be FINISHED.
        """
        with signals.held():
            sent = self._outbox.close(("status", status), _or_default(patience), signals.requested)
        if sent:
            shutil.rmtree(self._spool / self._launch, ignore_errors=True)
            with suppress(OSError):  # it is not there, or not empty
                self._spool.rmdir()
            return
        command = program.command("upload", str(self.spill), "--uri", self.store.uri)
        print(
            f"The store did not take everything of run {self.id} ({self._trouble()}). "
            f"It is kept. Send it with: {command}",
            file=sys.stderr,
        )
        if self._outbox.rejection is not None:
            with suppress(Exception):  # the run itself may be gone
                self.store.client.set_terminated(self.id, "FAILED")
            if status == "FINISHED":
                raise self._outbox.rejection


def _or_default(patience: float | None) -> float:
    return PATIENCE if patience is None else patience


def _steps(store: Store, run_id: str, key: str) -> set[int]:
    return {metric.step for metric in store.client.get_metric_history(run_id, key)}
