"""The README's pictures: `python -m tests.screenshots`.

Runs a sweep, the comparison of `make run` and a preset on a store of their own, opens their pages
and the MLflow UI in a real browser, and writes every PNG of docs/. Needs Chromium.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, ViewportSize

from l2keras_experiments.config import paths
from l2keras_experiments.reports import records, report, views
from l2keras_experiments.tracking.store import Store, ui_command
from tests.support import browser, servers

FOLDER = paths.PROJECT / "docs"
WINDOW: ViewportSize = {"width": 1440, "height": 800}
PAGE: ViewportSize = {"width": 1200, "height": 1150}  # down to the end of the first figure
SWEEP = ["optimizer=adam", "regularization=half_l2,decoupled", "seed=0,1,2",
         "regularization.lam=0.001,0.01,0.1,1", "training.epochs=10"]  # fmt: skip
PRESET = "learning_rate_and_lambda"
COLORS = 256  # enough for a page without photographs


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        run(folder, "train", "-m", "tracking.study=sweep", *SWEEP)
        run(folder, "train", f"experiment={PRESET}")
        run(folder, "compare")
        with servers.training_ui(ui_command(uri), folder) as ui, browser.chromium() as chromium:
            context = chromium.new_context(viewport=WINDOW, locale="en-GB")
            page = context.new_page()
            page.set_default_timeout(120_000)
            shoot_ui(page, records.open_study(uri, "sweep"), ui)
            page.set_viewport_size(PAGE)
            page.goto(newest_page(records.open_study(uri, "sweep"), f"*/{report.PAGE}"))
            save(page, "report")
            page.goto(newest_page(records.open_study(uri, "l2keras"), "comparison-*.html"))
            save(page, "comparison")
            page.goto(newest_page(records.open_study(uri, PRESET), f"*/{report.PAGE}"))
            save(page, PRESET, ".wide[aria-describedby=about-heat_map]")
            context.close()


def run(folder: Path, command: str, *arguments: str) -> None:
    """Runs a command of the experiments on a store in `folder`."""
    line = [
        sys.executable, "-m", f"experiments.{command}", *arguments,
        f"tracking.uri=sqlite:///{folder / 'mlflow.db'}",
        f"hydra.sweep.dir={folder / 'hydra'}", f"hydra.run.dir={folder / 'hydra'}",
    ]  # fmt: skip
    subprocess.run(line, cwd=paths.PROJECT, check=True)


def newest_page(store: Store, pattern: str) -> str:
    """Returns the address of the newest page of a study."""
    pages = report.default_folder(store).glob(pattern)
    return max(pages, key=lambda path: path.stat().st_mtime).as_uri()


def shoot_ui(page: Page, store: Store, ui: str) -> None:
    """Takes the pictures of the newest sweep's table and charts in the MLflow UI."""
    parent = records.sweeps(store)[0]
    page.goto(views.address(ui, store.experiment_id, parent, views.RUNS))
    page.wait_for_selector(".ag-row .ag-cell[col-id='params.`lambda`']")
    save(page, "mlflow_runs")
    page.goto(views.address(ui, store.experiment_id, parent, views.CHARTS))
    page.wait_for_selector(".js-plotly-plot path.point")
    page.wait_for_selector(".js-plotly-plot path.js-line")
    save(page, "mlflow_charts")


def save(page: Page, name: str, element: str | None = None) -> None:
    """Writes what is in the window, or one element, as a PNG of few colours."""
    page.wait_for_timeout(3000)  # what moves in comes to rest
    shot = page.locator(element).first.screenshot() if element else page.screenshot()
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    path = FOLDER / f"{name}.png"
    # The colours that are far apart stay, however few pixels have them: lines of a figure.
    few = picture.quantize(COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
