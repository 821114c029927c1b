"""Real servers for tests: MLflow's tracking server, and PostgreSQL to keep its records in."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from l2keras_experiments.config import paths

HOST = "127.0.0.1"
DEBIAN = Path("/usr/lib/postgresql")  # Debian keeps PostgreSQL's programs off the PATH


def free_port() -> int:
    """A port of the loopback interface that nothing listens on.

    It is below those that the system gives to clients, and drawn anew, whatever seed a test sets:
    neither another worker nor a connection takes it before the server does.
    """
    for port in random.SystemRandom().sample(range(15_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise RuntimeError("None of 100 ports is free.")


def wait_for_server(uri: str, log: Path, is_alive: Callable[[], bool]) -> None:
    """Returns when the MLflow server answers; raises with its log when it ends or takes minutes."""
    deadline = time.monotonic() + 180
    while is_alive() and time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"{uri}/health", timeout=5).close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"No MLflow server came up at {uri}:\n{log.read_text()[-3000:]}")


class TrackingServer:
    """MLflow's server app under uvicorn, as `mlflow server` runs it, on sqlite in `folder`.

    A fork server imports the app once (4 s), so that every further start takes half a second.

    Attributes:
        uri: Its address, the same after every start.
        log: What the server wrote.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: BaseProcess | None = None
        self.uri = f"http://{HOST}:{self._port}"
        self.log = folder / "server.log"

    def start(self) -> None:
        """Starts it, on the records that are in its folder; returns when it answers."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["uvicorn", "mlflow.server.fastapi_app"])
        self._process = context.Process(
            target=_serve, args=(self._folder, self._port, self.log), daemon=True
        )
        self._process.start()
        wait_for_server(self.uri, self.log, self._process.is_alive)

    def stop(self) -> None:
        """Kills it, in the middle of whatever it does; its records stay."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(folder: Path, port: int, log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    database = f"sqlite:///{folder / 'mlflow.db'}"
    os.environ.update({  # what `mlflow server` passes to its workers
        "_MLFLOW_SERVER_FILE_STORE": database,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    })  # fmt: skip
    import uvicorn
    from mlflow.server import fastapi_app, handlers

    handlers.initialize_backend_stores(database, database, "mlflow-artifacts:/")
    uvicorn.run(fastapi_app.app, host="127.0.0.1", port=port, log_level="warning")


@contextmanager
def tracking_server(folder: Path) -> Iterator[TrackingServer]:
    """A started TrackingServer for the length of the block."""
    server = TrackingServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def mlflow_server(store: str, folder: Path) -> Iterator[str]:
    """The command `mlflow server` on the database `store`, artifacts in `folder`; its address."""
    port = free_port()
    command: list[str | Path] = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--host", HOST,
        "--port", str(port), "--artifacts-destination", str(folder / "artifacts"),
        "--workers", "2",
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_for_server(f"http://{HOST}:{port}", log, lambda: process.poll() is None)
        yield f"http://{HOST}:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers too
        process.wait()


@contextmanager
def training_ui(command: str, folder: Path) -> Iterator[str]:
    """The UI that a command opens, as a launch prints it; its log is in `folder`. Its address."""
    port = free_port()
    words = shlex.split(f"env {command} --port {port} --workers 1")
    log = folder / "ui.log"
    with log.open("w") as output:
        process = subprocess.Popen(words, cwd=paths.PROJECT, stdout=output, stderr=output)
    try:
        wait_for_server(f"http://{HOST}:{port}", log, lambda: process.poll() is None)
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait()


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's server programs; None where they are not installed."""
    found = shutil.which("postgres")
    if found:
        return Path(found).resolve().parent  # a link, its neighbours elsewhere
    versions = sorted(DEBIAN.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


@contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """A PostgreSQL server with an empty database of its own; the URI that SQLAlchemy takes."""
    # PostgreSQL refuses root: there it runs as the user that its package has made.
    user = "postgres" if os.geteuid() == 0 else None
    password, port = secrets.token_hex(), free_port()
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        (folder / "password").write_text(password)
        if user:
            shutil.chown(folder, user)
            shutil.chown(folder / "password", user)
        process = _start_postgres(programs, folder, port, user)
        try:
            _wait_for_postgres(programs, port)
            # SQLAlchemy 2.1 takes psycopg 3 unless the driver is named.
            yield f"postgresql+psycopg2://mlflow:{password}@{HOST}:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # "fast": without waiting for the clients
            process.wait()


def _start_postgres(
    programs: Path, folder: Path, port: int, user: str | None
) -> subprocess.Popen[str]:
    data = folder / "data"
    initdb: list[str | Path] = [
        programs / "initdb", "--pgdata", data, "--username", "mlflow", "--encoding", "UTF8",
        "--auth", "scram-sha-256", "--pwfile", folder / "password", "--locale", "C", "--no-sync",
    ]  # fmt: skip
    subprocess.run(initdb, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    command: list[str | Path] = [
        programs / "postgres", "-D", data, "-p", str(port), "-k", folder,
        "-c", f"listen_addresses={HOST}", "-c", "fsync=off",
    ]  # fmt: skip
    with (folder / "postgres.log").open("w") as log:
        return subprocess.Popen(command, user=user, cwd=folder, stdout=log, stderr=log, text=True)


def _wait_for_postgres(programs: Path, port: int) -> None:
    command: list[str | Path] = [programs / "pg_isready", "-h", HOST, "-p", str(port), "--quiet"]
    deadline = time.monotonic() + 60
    while subprocess.run(command).returncode:
        if time.monotonic() > deadline:
            raise TimeoutError(f"PostgreSQL does not answer on port {port} after 60 s.")
        time.sleep(0.1)
