"""The sqlite file of a store: created whole or not at all, by one process at a time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from l2keras_experiments.config import credentials, paths
from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.runtime.durable import sync

PREFIX = "sqlite:///"
# What MLflow takes as a store; other schemes are those of its plugins.
SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
_HEADER = b"SQLite format 3\0"


def path_of(uri: str) -> Path | None:
    """The file; None where the store is another one."""
    return Path(uri.removeprefix(PREFIX)) if uri.startswith(PREFIX) else None


def check(uri: str, key: str = "tracking.uri") -> None:
    """Raises ConfigError for a store that no server and no disk could answer for.

    MLflow would ask a file that cannot be opened again for two minutes.

    Args:
        uri: "" for the default.
        key: The config key that says so.
    """
    shown = credentials.masked_address(uri)
    scheme = uri.partition(":")[0].partition("+")[0].lower()
    if uri and scheme not in SCHEMES and uri != "databricks" and not _is_plugin(scheme):
        raise ConfigError(
            f"`{key}`, or MLFLOW_TRACKING_URI, must be the URL of a database or a server: one of "
            f"{', '.join(f'{name}://' for name in SCHEMES)}. Received: {shown}. "
            f"For a file write {PREFIX}PATH."
        )
    if scheme == "sqlite":
        check_file(uri, key)
    if scheme in ("http", "https"):
        _check_address(uri, key)
    if scheme == "databricks" and not _is_signed_in():
        raise ConfigError(
            f"`{key}`, or MLFLOW_TRACKING_URI, needs an account for {scheme}. Received: {shown}, "
            "without DATABRICKS_HOST in the environment and without ~/.databrickscfg. "
            "Run `databricks configure`, or choose another store."
        )


def check_file(uri: str, key: str) -> None:
    """Raises ConfigError unless an sqlite URL names a file that is a database or can be one."""
    path = uri.removeprefix(PREFIX)
    reason = ""
    if not uri.startswith(PREFIX) or path in ("", ":memory:"):
        reason = "which names no file"
    elif set("?%") & set(path):
        reason = "and SQLAlchemy reads ? and % as no part of a path"
    else:
        try:
            reason = _obstacle(Path(path).absolute())
        except (OSError, ValueError) as error:  # a name that is too long, a null character
            reason = f"which cannot be made: {paths.reason(error)}"
    if reason:
        raise ConfigError(
            f"`{key}` must name a file that is an sqlite database, or can become one. "
            f"Received: {uri}, {reason}. Write {PREFIX}PATH, an absolute path with four slashes."
        )


def _obstacle(file: Path) -> str:
    """Why the file can be no database, else ""."""
    if file.is_dir():
        return "which is a folder"
    if file.exists():
        return _defect(file)
    if len(os.fsencode(file.name)) > paths.LONGEST_NAME - len(".lock"):
        return "which is too long a name"
    paths.check_writable(file.parent)
    return ""


def _defect(file: Path) -> str:
    """Why a file that is there can be no database, else ""."""
    if not file.is_file():  # a pipe would be waited for
        return "which is no file"
    with file.open("rb") as opened:
        start = opened.read(len(_HEADER))
    if start not in (b"", _HEADER):
        return "which is a file of another kind"
    tables = _tables(file) if start else set()
    if tables is None:
        return "which is damaged"
    if tables and "alembic_version" not in tables:  # MLflow's and Optuna's have it
        return "which is a database of another program"
    writable = os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)
    return "" if writable else "which cannot be written"


def _tables(file: Path) -> set[str] | None:
    """The names of a database's tables; None where it is none."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            return {name for (name,) in rows}
    except sqlite3.OperationalError:
        return {"alembic_version"}  # locked: in use, so that it is one
    except sqlite3.DatabaseError:
        return None


def _check_address(uri: str, key: str) -> None:
    try:
        parts = urlsplit(uri)
        if parts.hostname and (parts.port or 1) > 0:
            return
        reason = "which names no host"
    except ValueError as error:
        reason = str(error)
    raise ConfigError(
        f"`{key}`, or MLFLOW_TRACKING_URI, must be the address of a server. "
        f"Received: {credentials.masked_address(uri)}, {reason}. Write http://HOST:PORT."
    )


def _is_signed_in() -> bool:
    """Whether a variable or a file may have what databricks asks for."""
    file = Path("~/.databrickscfg").expanduser()
    return file.exists() or any(name.startswith("DATABRICKS_") for name in os.environ)


def _is_plugin(scheme: str) -> bool:
    """Whether a package brings MLflow a kind of store."""
    found = entry_points(group="mlflow.tracking_store")
    return scheme in {point.name for point in found}


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
