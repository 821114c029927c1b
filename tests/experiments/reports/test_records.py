"""Reading runs back from a real store."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.reports import records
from l2keras_experiments.reports.records import StudyError
from l2keras_experiments.tracking.store import Store
from tests.support.synthetic import Trial


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store


def test_a_run_comes_back(store: Store) -> None:
    """What was logged is read: tags, parameters, last metrics, status and times."""
    trial = Trial("builtin_l2", 0.25, seed=3, accuracy=0.875)
    run_id = trial.store(store)
    [record] = records.read(store)
    assert (record.id, record.status, record.method) == (run_id, "FINISHED", "builtin_l2")
    assert record.is_trial
    assert record.config_hash == trial.config_hash
    assert record.number("val_accuracy") == 0.875
    assert record.number("lambda") == 0.5
    assert record.number("seed") == 3
    assert math.isnan(record.number("model.name"))
    assert math.isnan(record.number("no.such.key"))
    assert record.end is not None
    assert 0 <= record.end - record.start < 60


def test_an_infinity_comes_back(store: Store) -> None:
    """MLflow keeps an infinite loss as the largest double; it is read as infinite."""
    Trial(accuracy=None, loss=math.inf).store(store)
    assert records.read(store)[0].number("val_data_loss") == math.inf


def test_histories_by_epoch(store: Store) -> None:
    """The values of a metric by epoch; a metric that a run does not have is left out."""
    run_id = Trial(accuracy=None, loss=2.0).store(store)
    found = records.histories(store, records.read(store), ["val_data_loss", "val_accuracy"])
    assert found == {(run_id, "val_data_loss"): {0: 1.0, 1: 1.0, 2: 2.0}}


def test_the_members_of_a_sweep(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """A sweep has its children, and those that it skipped because they were finished before."""
    before, other = Trial(seed=0), Trial(seed=1)
    before.store(store)
    other.store(store)
    with store.run("sweep", tags={"kind": "sweep"}) as parent:
        Trial(seed=2).store(store, parent.id)
    everything = records.read(store)

    def seeds() -> list[str]:
        return [r.params["seed"] for r in records.members(store, everything, parent.id)]

    assert seeds() == ["2"]
    store.client.log_text(parent.id, f'["{before.config_hash}"]', records.MEMBERS)
    assert seeds() == ["0", "2"]
    for damaged in ("", "[", "5", '[["a"]]'):
        store.client.log_text(parent.id, damaged, records.MEMBERS)
        with pytest.raises(StudyError, match=r"members.json of a sweep must be a list"):
            seeds()
    with pytest.raises(StudyError, match=r"must be a run of the study\. Received: nonsense"):
        records.members(store, everything, "nonsense")
    with store.run("compared", tags={"kind": "comparison"}) as comparison:
        pass
    with pytest.raises(StudyError, match=r"must be a sweep or a search\. Received: .*a comparison"):
        records.members(store, records.read(store), comparison.id)
    assert records.sweeps(store) == [parent.id]
    assert capsys.readouterr().err == ""  # no bar in a log file


def test_the_study_to_open(tmp_path: Path) -> None:
    """By default the study of the newest sweep, else l2keras; one that is not there is refused."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    store = Store(uri, "study")
    with pytest.raises(StudyError, match=r"Received: l2keras\. There are: study\."):
        records.open_study(uri, None)
    Store(uri, "l2keras")
    assert records.open_study(uri, None).experiment_id != store.experiment_id
    with store.run("sweep", tags={"kind": "sweep"}):
        pass
    assert records.open_study(uri, None).experiment_id == store.experiment_id
    with pytest.raises(StudyError, match=r"Received: studdy\. Did you mean study\?"):
        records.open_study(uri, "studdy")
    names = {experiment.name for experiment in store.client.search_experiments()}
    assert "studdy" not in names


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """Asking for a report creates no database."""
    path = tmp_path / "none.db"
    with pytest.raises(StudyError, match="The store must exist"):
        records.open_study(f"sqlite:///{path}", None)
    assert not path.exists()
    path.touch()
    with pytest.raises(StudyError, match="The store must exist"):
        records.open_study(f"sqlite:///{path}", None)
    assert not path.stat().st_size


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    """MLflow would put its tables into it, or ask one that is damaged for minutes."""
    other, damaged = tmp_path / "other.db", tmp_path / "damaged.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE experiments (x)")
    damaged.write_bytes(other.read_bytes()[:100] + b"noise")
    before = other.read_bytes()
    for path, reason in ((other, "of another program"), (damaged, "which is damaged")):
        with pytest.raises(ConfigError, match=reason):
            records.open_study(f"sqlite:///{path}", None)
    assert other.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [damaged, other]


def test_what_is_compared() -> None:
    """Neither the arms of a comparison nor what a search has pruned, a sweep's parent no more."""
    record = Trial().record()
    assert record.is_trial
    for tag in ({"arm": "none"}, {"pruned": "true"}, {"kind": "sweep"}):
        assert not replace(record, tags={**record.tags, **tag}).is_trial


def test_the_command_of_a_run() -> None:
    """A sweep tells its command, a run that of its process; older runs have it as their source."""
    record, command = Trial().record(), "python -m experiments.train"
    tags = {"command": command, "mlflow.source.name": "experiments.train"}
    assert replace(record, tags=tags).command == command
    for source in (command, "-m experiments.train"):
        assert replace(record, tags={"mlflow.source.name": source}).command == command
    assert replace(record, tags={"sweep_command": "make sweep"}).command == "make sweep"
    assert replace(record, tags={}).command == ""
