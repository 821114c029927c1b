"""What a person sees who opens a sweep in the MLflow UI: looked at in a real browser."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from experiments import paths, views
from experiments.tracking import Store
from tests.support import browser, servers
from tests.support.runs import SMALL, runs_of

METHODS, LAMBDAS = ("half_l2", "decoupled"), ("0.003", "0.03")
EPOCHS = 2  # of SMALL
WINDOW: ViewportSize = {"width": 1500, "height": 900}
WAIT = 60_000  # milliseconds, on a machine that has other work

needs_chromium = pytest.mark.skipif(
    browser.executable() is None, reason="needs Chromium: apt-get install chromium"
)


class Seen:
    """The runs of a sweep and where the UI shows them."""

    def __init__(self, ui: str, store: Store, told: str) -> None:
        self.ui, self.experiment_id, self.told = ui, store.experiment_id, told
        runs = runs_of(store)
        [self.parent] = [run for run in runs if run.data.tags["kind"] == "sweep"]
        self.trials = [run for run in runs if run.data.tags["kind"] == "trial"]

    def view(self, kind: str) -> str:
        """The address that the sweep itself has printed, at the server of the test."""
        found = re.search(rf"^  {kind}: (\S+)$", self.told, flags=re.MULTILINE)
        assert found, self.told
        return found[1].replace(views.LOCAL_UI, self.ui)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """A sweep made by the command, and MLflow's server on its store."""
    folder = tmp_path_factory.mktemp("ui")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    command = [
        sys.executable, "-m", "experiments.train", "-m", f"regularization={','.join(METHODS)}",
        f"regularization.lam={','.join(LAMBDAS)}", "seed=0,1", f"tracking.uri={uri}",
        "tracking.log_model=false", f"hydra.sweep.dir={folder / 'hydra'}", *SMALL,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=paths.PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with servers.tracking_server(folder) as server:
        yield Seen(server.uri, Store(uri, "l2keras"), done.stdout)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as found:
        yield found


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of a person who was never here: nothing is remembered, nothing was clicked."""
    context = chromium.new_context(viewport=WINDOW)
    context.set_default_timeout(WAIT)
    yield context.new_page()
    context.close()


def headers(page: Page) -> list[str]:
    """The columns of the runs table that are inside the window, from the left."""
    found = page.locator(".ag-header-cell").evaluate_all(
        "cells => cells.map(c => [c.getBoundingClientRect().left, c.innerText.trim()])"
    )
    return [text for left, text in sorted(found) if text and left < WINDOW["width"]]


def cells(page: Page, column: str) -> list[str]:
    """The texts of a column of the runs table, from the top."""
    found = page.locator(f".ag-row .ag-cell[col-id='{column}']")
    rows = found.evaluate_all(
        "cells => cells.map(c => [+c.closest('.ag-row').getAttribute('row-index'), c.innerText])"
    )
    return [text for _, text in sorted(rows)]


@needs_chromium
def test_the_table_has_method_lambda_and_accuracy_without_a_click(seen: Seen, page: Page) -> None:
    """The printed address shows every run, the best first, with what it is known by."""
    page.goto(seen.view(views.RUNS))
    expect(page.locator(".ag-row .ag-cell[col-id='params.`lambda`']")).to_have_count(
        len(seen.trials), timeout=WAIT
    )
    assert headers(page)[:5] == ["Run Name", "Created", "method", "lambda", "val_accuracy"]
    rows = zip(
        cells(page, "tags.`method`"),
        cells(page, "params.`lambda`"),
        [float(text) for text in cells(page, "metrics.`val_accuracy`")],
        strict=True,
    )
    ranked = sorted(seen.trials, key=lambda run: -run.data.metrics["val_accuracy"])
    accuracies = []
    for (method, lam, accuracy), run in zip(rows, ranked, strict=True):
        assert accuracy == pytest.approx(run.data.metrics["val_accuracy"], abs=1e-6)
        assert method in METHODS
        assert lam in LAMBDAS
        accuracies.append(accuracy)
    assert accuracies == sorted(accuracies, reverse=True)


def points(chart: Locator) -> int:
    """How many points a chart shows; Plotly draws some of them twice, on one another."""
    places = "points => points.map(p => p.getAttribute('transform'))"
    return len(set(chart.locator("path.point").evaluate_all(places)))


@needs_chromium
def test_grouped_children_have_charts_without_a_click(seen: Seen, page: Page) -> None:
    """The printed address shows a point for each method and lambda, and curves over epochs."""
    page.goto(seen.view(views.CHARTS))
    over_lambda = page.locator(".js-plotly-plot:has-text('log10_lambda')")
    expect(over_lambda.locator("path.point")).not_to_have_count(0, timeout=WAIT)
    means = len(METHODS) * len(LAMBDAS)  # of the two seeds
    expect(page.get_by_role("gridcell", name="Group: ")).to_have_count(means)
    assert over_lambda.locator("path.point").count() == means
    curves = page.locator(".js-plotly-plot:has(path.js-line)").first
    expect(curves).to_be_visible(timeout=WAIT)
    assert points(curves) >= means * EPOCHS  # the edges of the bands around them, too
    assert page.get_by_text("Means over the seeds", exact=True).count()
    assert not page.get_by_text("No charts").count()


@needs_chromium
def test_the_parent_has_a_curve_for_each_method(seen: Seen, page: Page) -> None:
    """The parent's charts are the mean accuracy over lambda, with a point for each lambda."""
    page.goto(views.run_address(seen.ui, seen.experiment_id, seen.parent.info.run_id))
    curves = page.locator(".js-plotly-plot:has(path.js-line)")
    expect(curves).to_have_count(len(METHODS) + 1, timeout=WAIT)  # and which lambdas they are
    assert [points(curve) for curve in curves.all()] == [len(LAMBDAS)] * (len(METHODS) + 1)
    expect(page.get_by_text("val_accuracy over lambda", exact=True).first).to_be_visible()
    for name in METHODS:
        expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


@needs_chromium
def test_two_runs_can_be_compared(seen: Seen, page: Page) -> None:
    """Two runs that are ticked in the table are shown side by side, parameter by parameter."""
    page.goto(seen.view(views.RUNS))
    ticks = page.locator(".ag-row .ag-checkbox-input")
    expect(ticks).not_to_have_count(0, timeout=WAIT)
    for i in (0, len(seen.trials) - 1):
        ticks.nth(i).check(force=True)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("Comparing 2 Runs from 1 Experiment")).to_be_visible(timeout=WAIT)
    text = page.locator("body").inner_text()
    for word in ("regularization.name", "log10_lambda", "weight_norm", "val_accuracy"):
        assert word in text
    shown = [run for run in seen.trials if run.info.run_id in text]
    assert len(shown) == 2
    assert all(run.info.run_name in text for run in shown)
