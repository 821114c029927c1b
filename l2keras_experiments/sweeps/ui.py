"""Opens the MLflow UI on the store, at the newest runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

from l2keras_experiments.config import credentials, program
from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.reports import records, views
from l2keras_experiments.runtime import boundary
from l2keras_experiments.tracking import database
from l2keras_experiments.tracking.store import check_ui_flags, store_uri

# The flags of `mlflow ui` that may hold a password, and their environment variables.
ADDRESSES = {
    "--backend-store-uri": "MLFLOW_BACKEND_STORE_URI",
    "--registry-store-uri": "MLFLOW_REGISTRY_STORE_URI",
    "--default-artifact-root": "MLFLOW_DEFAULT_ARTIFACT_ROOT",
    "--artifacts-destination": "MLFLOW_ARTIFACTS_DESTINATION",
}
APP = "l2keras"  # tracking.training_ui, as pyproject.toml calls it
STORES = ("--backend-store-uri", "--registry-store-uri")


def main() -> None:
    """Becomes `mlflow ui` on the store; a tracking server has its own page.

    Raises:
        ConfigError: flags that `mlflow ui` does not take, or a store that cannot be.
    """
    credentials.hide()
    uri = store_uri(None)
    database.check(uri)
    if uri.startswith(("http://", "https://")):
        shown = credentials.page(uri)
        print(f"The store is a tracking server with a page of its own: {shown}")
        show_newest(shown)
        return
    here = address(sys.argv[1:])
    if sys.argv[1:]:
        check_ui_flags(sys.argv[1:])
    flags = _without_stores(sys.argv[1:], uri)
    show_newest(here)
    sys.stdout.flush()
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # starts faster
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *_app(flags), *flags])


def _app(flags: Sequence[str]) -> list[str]:
    """The flag for our application, unless another one or another server is asked for."""
    known = {point.name for point in entry_points(group="mlflow.app")}
    own = ("--app-name", "--gunicorn-opts", "--waitress-opts")
    if APP not in known or any(flag.partition("=")[0] in own for flag in flags):
        return []
    return ["--app-name", APP]


def _without_stores(flags: Sequence[str], uri: str) -> list[str]:
    """The flags of `mlflow ui` but for its addresses, which become environment variables.

    Every user can list the arguments of a process, and no other one its environment.

    Raises:
        ConfigError: a store that cannot be.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ADDRESSES:
        parser.add_argument(flag)
    given, others = parser.parse_known_args(flags)
    values = dict(zip(ADDRESSES, vars(given).values(), strict=True))
    addresses = {flag: credentials.revealed(value) for flag, value in values.items() if value}
    for flag in set(addresses) & set(STORES):
        database.check(addresses[flag], flag)
    for flag, value in {STORES[0]: uri, **addresses}.items():
        os.environ[ADDRESSES[flag]] = value
    return others


def address(flags: Sequence[str]) -> str:
    """Where `mlflow ui` will listen with these flags."""
    found = boundary.Parser(prog=program.command("ui"), add_help=False, allow_abbrev=False)
    found.add_argument("--host", "-h", default=os.environ.get("MLFLOW_HOST", "127.0.0.1"))
    found.add_argument("--port", "-p", default=os.environ.get("MLFLOW_PORT", "5000"))
    known, _ = found.parse_known_args(flags)
    if not (known.port.isdecimal() and int(known.port) < 65536):
        raise ConfigError(
            "--port, or MLFLOW_PORT, must be a number from 0 to 65535. "
            f"Received: {known.port}. Choose a free port, such as 5001."
        )
    if not known.host.strip():
        raise ConfigError(
            "--host, or MLFLOW_HOST, must be an address. Received: an empty text. "
            "Leave it out for 127.0.0.1."
        )
    return f"http://{known.host}:{known.port}"


def show_newest(ui: str) -> None:
    """Prints where the UI at `ui` shows the newest sweep, comparison or search of the store."""
    try:
        found = views.newest(records.open_study(None, None))
    except records.StudyError:  # a store without runs
        return
    if found is not None:
        study, parent = found
        print(f"The newest runs, of study {study!r}, once the UI is up:")
        views.show(records.open_study(None, study), parent, ui)
