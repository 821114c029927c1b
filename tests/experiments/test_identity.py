"""Which runs are the same, and who is at work on one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from experiments import cli, identity, paths
from tests.support.runs import Compose


def hash_of(composed: Compose, *overrides: str) -> str:
    return identity.config_hash(cli.flatten(composed("config", *overrides)))


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


def test_a_claim_is_seen_by_other_processes_and_ends_with_its_own(tmp_path: Path) -> None:
    """Held: busy for others. Killed: free again, at once, and known to have been held."""
    program = (
        "import sys, time; from pathlib import Path; from experiments import identity\n"
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
