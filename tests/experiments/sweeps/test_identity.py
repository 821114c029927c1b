"""Which runs are the same, and who is at work on one."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from l2keras_experiments.config import flattening, paths, targets
from l2keras_experiments.sweeps import identity
from tests.support.runs import Compose


def hash_of(composed: Compose, *overrides: str) -> str:
    return identity.config_hash(flattening.flatten(composed("config", *overrides)))


def test_what_changes_no_result_changes_no_hash(composed: Compose) -> None:
    """Where a run is recorded, what it shows and whether it is rerun are left out."""
    neutral = [
        "tracking.study=other",
        "tracking.parent=abc",
        "training.progress=false",
        "rerun=all",
    ]
    assert hash_of(composed, *neutral) == hash_of(composed)


@pytest.mark.parametrize(
    "override",
    ["seed=1", "regularization.lam=0.02", "training.epochs=61", "device=cpu", "backend=jax"],
)
def test_what_changes_the_result_changes_the_hash(composed: Compose, override: str) -> None:
    """Every other key counts, the backend too."""
    assert hash_of(composed, override) != hash_of(composed)


def test_a_backend_that_is_named_is_the_one_that_would_be_taken(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend counts as it comes out, not as it was chosen."""
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert hash_of(composed, "backend=tensorflow") == hash_of(composed)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert hash_of(composed, "backend=jax") == hash_of(composed)


def test_without_regularization_lambda_is_no_difference(composed: Compose) -> None:
    """Nothing reads lambda under `none`: a sweep over it trains the baseline once."""
    none = "regularization=none"
    assert hash_of(composed, none, "regularization.lam=0.5") == hash_of(composed, none)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules: the target `edited_model.build`, which imports what is beside it."""
    (tmp_path / "edited_model.py").write_text(
        "import edited_layers\ndef build(input_shape): return edited_layers.WIDTH\n"
    )
    (tmp_path / "edited_layers.py").write_text("WIDTH = 8\n")
    (tmp_path / "unrelated.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", ["edited_model.py", "edited_layers.py"])
def test_an_edited_model_is_another_run(composed: Compose, own: Path, file: str) -> None:
    """The source of the target's module counts, and that of what it imports beside it."""
    mine = "model._target_=edited_model.build"
    before = hash_of(composed, mine)
    (own / "unrelated.py").write_text("x = 1\n")
    assert hash_of(composed, mine) == before != hash_of(composed)
    text = (own / file).read_text()
    (own / file).write_text(text.replace("8", "9") + "# edited\n")
    assert hash_of(composed, mine) != before
    (own / file).write_text(text)
    assert hash_of(composed, mine) == before


def test_an_installed_model_counts_by_its_version(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thousands of files of a package are not read; another version is another run."""
    mine = "data._target_=sklearn.datasets.load_wine"
    before = hash_of(composed, mine)
    assert hash_of(composed, mine) == before
    monkeypatch.setattr(targets, "_hashes", {})
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99")
    assert hash_of(composed, mine) != before


def test_a_module_in_folders_without_init(composed: Compose, own: Path) -> None:
    """Their source counts, too, though Python finds them only once they are imported."""
    (own / "bare" / "nets").mkdir(parents=True)
    file = own / "bare" / "nets" / "wide.py"
    file.write_text("def build(input_shape): return 1\n")
    mine = "model._target_=bare.nets.wide.build"
    before = hash_of(composed, mine)
    file.write_text("def build(input_shape): return 11\n")
    assert hash_of(composed, mine) != before


def test_the_bytes_of_a_data_file_count_not_its_name(composed: Compose, tmp_path: Path) -> None:
    """A file that is moved is the same data, one that is edited is not."""

    def of(path: Path) -> str:
        return hash_of(composed, "data=csv", f"data.path={path}", "data.target=y")

    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("x,y\n1,2\n")
    second.write_text("x,y\n1,2\n")
    before = of(first)
    assert of(second) == before
    second.write_text("x,y\n1,3\n")
    os.utime(second, ns=(1, first.stat().st_mtime_ns))  # another name has another entry
    assert of(second) != before
    first.write_text("x,y\n1,22\n")
    os.utime(first, ns=(1, second.stat().st_mtime_ns))  # of another size
    assert of(first) != before


@pytest.mark.parametrize(
    "key", ["data.file", "model.options.weights", "optimizer.files", "regularization.toward"]
)
def test_every_file_that_a_target_reads_counts(key: str, tmp_path: Path) -> None:
    """Whatever the argument is called, in a list or a mapping too."""
    path = tmp_path / "start.weights.h5"

    def of() -> str:
        value = [str(path)] if key.endswith("files") else str(path)
        return identity.config_hash({key: value})

    path.write_text("one")
    before = of()
    path.write_text("other")
    assert of() != before
    path.write_text("one")
    assert of() == before


def test_the_file_that_a_callback_writes_does_not_count(tmp_path: Path) -> None:
    """A log of the first run is no reason for a second one."""
    path = tmp_path / "log.csv"
    flat = {
        "training.callbacks": [{"_target_": "keras.callbacks.CSVLogger", "filename": str(path)}]
    }
    before = identity.config_hash(flat)
    path.write_text("epoch,loss\n")
    assert identity.config_hash(flat) == before


def test_the_order_of_patterns_counts() -> None:
    """The first that matches wins."""
    first, second = {"a/*": 1, "*": 2}, {"*": 2, "a/*": 1}
    hashes = {identity.config_hash({"regularization.scale": one}) for one in (first, second)}
    assert len(hashes) == 2


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep of many runs reads its table once, and again when it has changed."""
    path, opened = tmp_path / "table.csv", []
    path.write_text("x,y\n1,2\n")
    real = Path.open

    def noting(self: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(self)
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", noting)
    flat = {"data.path": str(path)}
    first = {identity.config_hash({**flat, "seed": seed}) for seed in range(5)}
    assert (len(first), opened) == (5, [path])
    path.write_text("x,y\n1,22\n")
    opened.clear()
    assert identity.config_hash({**flat, "seed": 0}) not in first
    assert opened == [path]


def test_a_claim_is_seen_by_other_processes_and_ends_with_its_own(tmp_path: Path) -> None:
    """Held: busy for others. Killed: free again, at once, and known to have been held."""
    program = (
        "import sys, time; from pathlib import Path\n"
        "from l2keras_experiments.sweeps import identity\n"
        "with identity.claim(Path(sys.argv[1]), 'run'): print('held', flush=True); time.sleep(60)"
    )
    assert identity.is_claimed(tmp_path, "run") is None
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, cwd=paths.PROJECT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert identity.is_claimed(tmp_path, "run") is True
        with pytest.raises(identity.Busy), identity.claim(tmp_path, "run", patience=0.1):
            pass
        process.kill()
        process.wait()
        assert identity.is_claimed(tmp_path, "run") is False
    with identity.claim(tmp_path, "run"):
        assert identity.is_claimed(tmp_path, "run") is True
    assert identity.is_claimed(tmp_path, "run") is None
