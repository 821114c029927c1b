"""Sends what a store did not take while a run lasted."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from l2keras_experiments.config import credentials, messages, program
from l2keras_experiments.config.schema import ConfigError, check_run_id
from l2keras_experiments.runtime import boundary, durable
from l2keras_experiments.runtime.durable import Damaged
from l2keras_experiments.tracking import database
from l2keras_experiments.tracking.outbox import Operation, Rejected, files_of, read_spill, spool_of
from l2keras_experiments.tracking.store import Store


def read(path: Path) -> Sequence[Operation]:
    """The operations in a file that a run has left.

    Raises:
        ConfigError: it is a file of another kind.
    """
    check_run_id("FILE", path.stem)
    try:
        return read_spill(path)
    except (OSError, ValueError) as error:
        raise _foreign(path, str(error).partition("\n")[0]) from None


def _foreign(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"FILE must be one that a run has left, RUN_ID.jsonl. Received: {path} ({why}). "
        "It stays where it is."
    )


def upload(store: Store, path: Path) -> None:
    """Writes the operations of the file to the run that it is named after; removes the file.

    Raises:
        Damaged: nothing of it has been sent.
    """
    operations = read_spill(path)
    store.write(path.stem, operations, path)
    path.unlink(missing_ok=True)
    for operation in operations:
        for name, _ in files_of(operation):
            _remove(spool_of(path), name)


def _remove(spool: Path, name: str) -> None:
    """Removes a file of the spool, and the folders that are empty then."""
    with suppress(OSError):
        (spool / name).unlink()
        for folder in (*(spool / name).parents,)[: len(Path(name).parts)]:
            folder.rmdir()


def send_pending(store: Store) -> None:
    """Sends what earlier runs have left, as far as it is this store's and it takes it."""
    for path in sorted((store.folder / "unsent").glob("*.jsonl")):
        try:
            upload(store, path)
            print(f"sent what was left of run {path.stem}", file=sys.stderr)
        except Damaged as error:
            _set_aside(path, error)
        except Exception:  # it stays where it is
            continue


def _set_aside(path: Path, error: Damaged) -> None:
    with suppress(OSError):
        if spool_of(path).is_dir() and not spool_of(path).is_symlink():
            durable.set_aside(spool_of(path))
        aside = durable.set_aside(path)
        durable.warn(f"{path} is damaged: {error}. It is now {aside.name} and is not sent.")


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 if the store refuses a file, which then stays.

    Raises:
        ConfigError: a file is none that a run has left; nothing is sent.
    """
    parser = boundary.Parser(prog=program.command("upload"), description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="RUN_ID.jsonl")
    parser.add_argument("--uri", help="MLflow store; by default as `train` chooses it")
    parser.add_argument("--study", default="l2keras", help="any study of that store")
    if arguments is None:
        credentials.hide()
    options = parser.parse_args(arguments)
    for path in options.files:
        read(path)
    database.check(options.uri or os.environ.get("MLFLOW_TRACKING_URI") or "", "--uri")

    store = Store(options.uri, options.study)
    failed = 0
    for path in options.files:
        try:
            upload(store, path)
        except Rejected as error:
            print(messages.line(f"{path}: {error}"), file=sys.stderr)
            failed = 1
        else:
            print(f"sent to run {path.stem} of {store.uri}")
    return failed
