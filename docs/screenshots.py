"""The README's pictures of a sweep: `python -m docs.screenshots [--store FOLDER] [overrides]`.

Makes a sweep, opens it in a real MLflow UI and in its own page, and writes docs/mlflow_runs.png,
docs/mlflow_charts.png and docs/report.png. Needs Chromium.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize

from experiments import paths, records, report, views
from experiments.tracking import Store
from tests.support import browser, servers

FOLDER = paths.PROJECT / "docs"
WINDOW: ViewportSize = {"width": 1400, "height": 800}
PAGE: ViewportSize = {"width": 1200, "height": 1150}  # down to the end of the first figure
SWEEP = ["optimizer=adam", "regularization=half_l2,decoupled", "seed=0,1,2",
         "regularization.lam=0.001,0.01,0.1,1", "training.epochs=10"]  # fmt: skip
COLORS = 256  # enough for a page without photographs
# MLflow opens its assistant over a third of the window on the first visit.
NO_ASSISTANT = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.screenshots", description=__doc__)
    parser.add_argument(
        "--store", type=Path, help="folder with the mlflow.db of a finished sweep; default: a new"
    )
    parser.add_argument("overrides", nargs="*", default=SWEEP, help=f"default: {' '.join(SWEEP)}")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = options.store.absolute() if options.store else Path(name)
        if not options.store:
            sweep(folder, options.overrides)
        store = records.open_study(f"sqlite:///{folder / 'mlflow.db'}", None)
        with servers.tracking_server(folder) as server, browser.chromium() as chromium:
            shoot(chromium, store, server.uri)


def sweep(folder: Path, overrides: Sequence[str]) -> None:
    """Runs a sweep by the command, on a store in `folder`."""
    command = [
        sys.executable, "-m", "experiments.train", "-m", "tracking.log_model=false",
        f"tracking.uri=sqlite:///{folder / 'mlflow.db'}", f"hydra.sweep.dir={folder / 'hydra'}",
        *overrides,
    ]  # fmt: skip
    subprocess.run(command, cwd=paths.PROJECT, check=True)


def shoot(chromium: Browser, store: Store, ui: str) -> None:
    """Takes the three pictures of the newest sweep of the study."""
    parent = records.sweeps(store)[0]
    context = chromium.new_context(viewport=WINDOW, locale="en-GB")
    context.add_init_script(NO_ASSISTANT)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(views.address(ui, store.experiment_id, parent, views.RUNS))
    page.wait_for_selector(".ag-row .ag-cell[col-id='params.`lambda`']")
    save(page, "mlflow_runs")
    page.goto(views.address(ui, store.experiment_id, parent, views.CHARTS))
    page.wait_for_selector(".js-plotly-plot path.point")
    page.wait_for_selector(".js-plotly-plot path.js-line")
    save(page, "mlflow_charts")
    page.set_viewport_size(PAGE)
    page.goto((report.default_folder(store) / report.PAGE).as_uri())
    save(page, "report")
    context.close()


def save(page: Page, name: str) -> None:
    """Writes what is in the window as a PNG of few colours."""
    page.wait_for_timeout(3000)  # what moves in comes to rest
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = FOLDER / f"{name}.png"
    picture.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
