"""What commands leave behind when the address of the store or the search has a password."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from l2keras_experiments.config import paths
from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.sweeps import ui
from tests.support.runs import SMALL
from tests.support.servers import TrackingServer

SECRET = "hunter2"
AWAY = f"postgresql+psycopg2://bob:{SECRET}@127.0.0.1:9/x"


def run(folder: Path, *command: str, **environment: str) -> tuple[int, str, str]:
    """Exit status and output of a command, and what is in the list of processes meanwhile."""
    seen, output = "", folder / f"output{time.monotonic_ns()}.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=paths.PROJECT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        deadline = time.monotonic() + 300
        own = Path("/proc", str(process.pid), "cmdline")
        # It starts again without its secret; meanwhile it has no arguments at all.
        while process.poll() is None and (SECRET in (now := own.read_text()) or not now):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        while process.poll() is None and time.monotonic() < deadline:
            seen += "\n".join(_processes(process.pid))
            time.sleep(0.1)
        if process.poll() is None:
            process.kill()
    return process.wait(), output.read_text(), seen


def _processes(session: int) -> Iterator[str]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                yield (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has ended
            continue


def check_no_secret(folder: Path, *texts: str) -> None:
    """Asserts that no file, name or text has the password in it."""
    assert not [text[:3000] for text in texts if SECRET in text]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in folder.rglob("*") if SECRET in str(path)]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


@pytest.fixture
def address(tracking_server: TrackingServer) -> str:
    """MLflow's server takes any password."""
    return tracking_server.uri.replace("://", f"://bob:{SECRET}@")


@pytest.mark.parametrize(
    "launcher", ["basic", "vectorized", "isolated", "joblib", "submitit_local"]
)
def test_a_sweep_leaves_no_password(launcher: str, address: str, tmp_path: Path) -> None:
    """Typed as an override, it reaches the store from every launcher, and nothing else."""
    status, output, seen = run(
        tmp_path, "experiments.train", "-m", f"hydra/launcher={launcher}", "seed=0,1",
        f"tracking.uri={address}", f"tracking.study=of_{launcher}", *SMALL,
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    )  # fmt: skip
    assert "2 of 2 runs finished" in output, output
    assert status == 0
    assert "experiments.train" in seen
    check_no_secret(tmp_path, output, seen)


def test_a_report_and_a_search_leave_no_password(address: str, tmp_path: Path) -> None:
    """The search with its store in the environment; pages, presets and the report of its runs."""
    status, output, seen = run(
        tmp_path, "experiments.tune", "tune.num_trials=1", "tune.preset=tuned_secret",
        "tracking.study=search", f"tune.storage=sqlite:///{tmp_path / 'optuna.db'}", *SMALL,
        f"hydra.run.dir={tmp_path / 'hydra'}", MLFLOW_TRACKING_URI=address,
    )  # fmt: skip
    preset = paths.CONFIGS / "experiment" / "tuned_secret.yaml"
    try:
        assert SECRET not in preset.read_text()
    finally:
        preset.unlink()
    assert status == 0, output
    check_no_secret(tmp_path, output, seen)
    status, output, seen = run(
        tmp_path, "experiments.report", "search", "--uri", address, "--output", str(tmp_path / "r")
    )
    assert status == 0, output
    check_no_secret(tmp_path, output, seen)


FAILURES = {
    "away": ["experiments.train", f"tracking.uri=http://bob:{SECRET}@127.0.0.1:9"],
    "foreign": ["experiments.train", f"tracking.uri=foo://bob:{SECRET}@host"],
    "misspelt": ["experiments.train", f"tracking.url=http://bob:{SECRET}@host"],
    "broken": ["experiments.train", f"tracking.uri=http://bob:{SECRET}@[:x"],
    "two": ["experiments.train", f"tracking.uri=http://a:{SECRET}@h,http://b:{SECRET}@h"],
    "storage": ["experiments.tune", f"tune.storage={AWAY}"],
    "verbose": ["experiments.train", f"tracking.uri=foo://{SECRET}@h", "hydra.verbose=true"],
    "variable": ["experiments.train", f"+hydra.job.env_set={{DB_TOKEN:{SECRET}}}"],
    "swept": ["experiments.train", "-m",
              f"hydra.sweeper.params={{hydra.job:'{{env_set:{{DB_TOKEN:{SECRET}}}}}'}}"],
    "printed": ["experiments.train", f"tracking.uri=http://{SECRET}@h", "--cfg", "all"],
    "file": ["experiments.train", "--config-dir", "{folder}", "+secret=file"],
    "upload": ["experiments.upload", "{folder}/a.jsonl", f"--uri=http://{SECRET}@127.0.0.1:9"],
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_a_mistake_leaves_no_password(name: str, tmp_path: Path) -> None:
    """Neither the message nor what Hydra has written by then."""
    words = [word.replace("{folder}", str(tmp_path / "given")) for word in FAILURES[name]]
    (tmp_path / "given" / "secret").mkdir(parents=True)
    file = tmp_path / "given" / "secret" / "file.yaml"
    file.write_text(f"# @package _global_\ntracking:\n  uri: foo://bob:{SECRET}@host\n")
    (tmp_path / "given" / "a.jsonl").touch()
    hydra = [f"hydra.run.dir={tmp_path / 'hydra'}"] if words[0] != "experiments.upload" else []
    status, output, seen = run(tmp_path, *words, *hydra)
    file.unlink()
    assert status != 0 or name == "printed"
    assert output
    check_no_secret(tmp_path, output, seen)


def test_the_ui_leaves_no_password(tmp_path: Path) -> None:
    """Neither its arguments nor what it says have the password. This store has no driver."""
    address = f"mysql+nodriver://bob:{SECRET}@127.0.0.1:9/x"
    status, output, seen = run(tmp_path, "experiments.ui", "--port=0", MLFLOW_TRACKING_URI=address)
    assert status == 2
    assert "experiments.ui --port=0" in seen
    assert "mysql+nodriver://bob:***@127.0.0.1:9/x" in output
    check_no_secret(tmp_path, output, seen)


def test_the_ui_gets_its_stores_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mlflow ui` has no address among its arguments, which every user can list."""
    for name in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_REGISTRY_STORE_URI"):
        monkeypatch.setenv(name, "")
    other = f"postgresql://bob:{SECRET}@host/y"
    bucket = f"s3://user:{SECRET}@bucket"
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "")
    flags = ["--port", "5", "--registry-store-uri", other, f"--default-artifact-root={bucket}"]
    assert ui._without_stores(flags, "sqlite:///x.db") == ["--port", "5"]
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == "sqlite:///x.db"
    assert os.environ["MLFLOW_REGISTRY_STORE_URI"] == other
    assert os.environ["MLFLOW_DEFAULT_ARTIFACT_ROOT"] == bucket
    with pytest.raises(ConfigError, match=r"`--backend-store-uri` must .* which is a folder"):
        ui._without_stores(["--backend-store-uri", "sqlite:////tmp"], "sqlite:///x.db")
