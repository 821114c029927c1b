"""Opens the MLflow UI on the store: `python -m experiments.ui [flags of mlflow ui]`."""

from __future__ import annotations

import os
import sys
from urllib.parse import urlparse

from experiments.tracking import store_uri


def main() -> None:
    """Becomes `mlflow ui` on the store; a tracking server has its own page."""
    uri = store_uri(None)
    if urlparse(uri).scheme in ("http", "https"):
        print(f"The store is a tracking server with a page of its own: {uri}")
        return
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # starts faster
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, *sys.argv[1:]]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main()
