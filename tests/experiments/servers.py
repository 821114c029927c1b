"""Real servers for tests: MLflow's tracking server, and PostgreSQL to keep its records in."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

HOST = "127.0.0.1"


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_for_server(uri: str, seconds: float) -> None:
    """Returns when the MLflow server answers; raises TimeoutError when it does not in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"{uri}/health", timeout=5).close()
            return
        time.sleep(0.05)
    raise TimeoutError(f"No MLflow server at {uri} after {seconds} s.")


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
        wait_for_server(self.uri, 120)

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
