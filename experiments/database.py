"""The sqlite file of a store: created whole or not at all, by one process at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from experiments.durable import sync

PREFIX = "sqlite:///"


def path_of(uri: str) -> Path | None:
    """The file; None where the store is another one."""
    return Path(uri.removeprefix(PREFIX)) if uri.startswith(PREFIX) else None


@contextmanager
def creation_lock(file: Path | None) -> Iterator[None]:
    """MLflow cannot have two processes create one sqlite database: one at a time."""
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        yield


def create(file: Path | None, migrate: Callable[[str], Any]) -> None:
    """Has a new database made under another name: whoever is killed here leaves none.

    Args:
        file: It may be there already.
        migrate: Makes all tables of the database with this URI.
    """
    if file is None or file.exists():
        return
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    with one_sync(new):
        migrate(f"{PREFIX}{new}")
    new.replace(file)
    sync(file.parent)  # its new name


@contextmanager
def one_sync(database: Path) -> Iterator[None]:
    """SQLite waits for the disk at the end of the block, not after each statement of MLflow's.

    What a crash leaves behind in the block is no database yet: it has another name. The engine
    is MLflow's to make, so all are listened to; connections to other databases are left alone.
    """
    from sqlalchemy import Engine, event

    def hurry(connection: Any, _: Any) -> None:
        if _is_of(connection, database):
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = MEMORY")

    event.listen(Engine, "connect", hurry)
    try:
        yield
    finally:
        event.remove(Engine, "connect", hurry)
    sync(database)


def _is_of(connection: Any, database: Path) -> bool:
    """Whether a driver's connection is one of SQLite's to this file."""
    if not isinstance(connection, sqlite3.Connection):
        return False
    files = {name: file for _, name, file in connection.execute("PRAGMA database_list")}
    return Path(files["main"]).resolve() == database.resolve()  # "" where it is in memory
