"""The sqlite file of a store."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from l2keras_experiments.tracking import database


def test_only_the_database_being_created_is_written_in_haste(tmp_path: Path) -> None:
    """Engines that connect meanwhile keep all care, be it another file's or another database's."""

    class Foreign:
        """A connection of a driver that knows no PRAGMA."""

        def execute(self, statement: str) -> None:
            raise AssertionError(f"syntax error at or near {statement}")

        def rollback(self) -> None: ...

        def close(self) -> None: ...

    def care(database: str) -> tuple[Any, ...]:
        engine = sqlalchemy.create_engine(f"sqlite:///{database}", poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            pragmas = ("synchronous", "journal_mode")
            return tuple(connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in pragmas)

    new = tmp_path / "folder" / "mlflow.db.new"
    new.parent.mkdir()
    (tmp_path / "link").symlink_to(new.parent)
    with database.one_sync(tmp_path / "link" / new.name):
        assert care(str(new)) == (0, "memory")  # OFF
        assert care(str(tmp_path / new.name)) == (2, "delete")  # FULL
        assert care("")[0] == 2  # in memory
        sqlalchemy.NullPool(Foreign).connect().close()  # type: ignore[arg-type]  # not all of one
    assert care(str(new)) == (2, "delete")


def test_a_created_database_and_its_name_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waits for the file before it gets its name, and for the folder afterwards."""
    file = tmp_path / "mlflow.db"
    synced: list[tuple[str, bool]] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append(("folder" if is_folder else "file", file.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    database.create(file, lambda uri: Path(uri.removeprefix("sqlite:///")).touch())
    assert synced == [("file", False), ("folder", True)]
