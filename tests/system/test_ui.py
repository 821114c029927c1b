"""What a person sees who opens a launch in the MLflow UI: looked at in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from l2keras_experiments.config import methods
from l2keras_experiments.reports import views
from l2keras_experiments.tracking.store import Store
from tests.support import browser, commands, servers
from tests.support.runs import SMALL, runs_of

NAMES = ("half_l2", "decoupled")
ARMS = "none,builtin_half,decoupled,coupled,optimizer_weight_decay"
LABELS = [methods.label(name) for name in NAMES]
WINDOW: ViewportSize = {"width": 1440, "height": 900}
WAIT = 60_000  # milliseconds, on a machine that has other work
METHOD, LAM, ACCURACY = "tags.`method`", "params.`lambda`", "tags.`val_accuracy`"

pytestmark = pytest.mark.skipif(
    browser.executable() is None, reason="needs Chromium: apt-get install chromium"
)


@dataclass
class Launch:
    """What a command has trained and printed; a single run has no parent."""

    study: str
    printed: str
    parent: Any
    trials: list[Any]

    def link(self, kind: str, ui: str) -> str:
        """The address that the command has printed, at the server of the test."""
        found = re.search(rf"^  {kind}: (\S+)$", self.printed, flags=re.MULTILINE)
        assert found, self.printed
        return found[1].replace(views.LOCAL_UI, ui)


@dataclass
class Seen:
    """A store with launches, and the UI that the printed command opens on it."""

    ui: str
    launches: dict[str, Launch]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Two sweeps of one study with runs in common, a comparison and a search, by their commands."""
    folder = tmp_path_factory.mktemp("ui")
    uri = f"sqlite:///{folder / 'mlflow.db'}"

    def launch(command: str, study: str, *overrides: str) -> Launch:
        kind = "sweep" if "-m" in overrides else "run"
        where = [f"tracking.uri={uri}", f"tracking.study={study}"]
        hydra = f"hydra.{kind}.dir={folder / 'hydra' / f'{study}-{len(overrides)}'}"
        done = commands.answer(command, [*overrides, *where, hydra, *SMALL])
        assert done.status == 0, done.err
        store = Store(uri, study)
        runs = runs_of(store)
        parent = next((run for run in runs if run.data.tags.get("kind") in KINDS), None)
        key = f"launch.{parent.info.run_id}" if parent else "kind"
        return Launch(study, done.out, parent, [run for run in runs if key in run.data.tags])

    grid = [f"regularization={','.join(NAMES)}", "seed=0,1", "hydra/launcher=vectorized"]
    (folder / "conf").mkdir()
    launches = {
        "alone": launch("train", "single"),
        "first": launch("train", "swept", "-m", *grid, "regularization.lam=0.003,0.03"),
        "second": launch("train", "swept", "-m", *grid, "regularization.lam=0.03,0.3"),
        "comparison": launch(
            "compare", "compared", "compare.lams=[0.05]", f"compare.arms=[{ARMS}]"
        ),
        "search": launch(
            "tune", "tuned", "--config-dir", str(folder / "conf"), "tune.num_trials=3"
        ),
    }
    printed = re.search(r"^MLflow UI: (.*)$", launches["first"].printed, flags=re.MULTILINE)
    assert printed
    with servers.training_ui(printed[1], folder) as ui:
        yield Seen(ui, launches)


KINDS = ("sweep", "comparison", "tuning")


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


def click_name(page: Page, seen: Seen, study: str) -> None:
    """Opens the UI, and clicks the name of an experiment and nothing else."""
    page.goto(seen.ui)
    page.get_by_role("link", name=study, exact=True).first.click()


def headers(page: Page) -> list[str]:
    """The columns of the runs table that are inside the window, from the left."""
    found = page.locator(".ag-header-cell").evaluate_all(
        "cells => cells.map(c => [c.getBoundingClientRect(), c.innerText.trim()])"
        ".map(([box, text]) => [box.left, box.right, text])"
    )
    return [text for _, right, text in sorted(found) if text and right <= WINDOW["width"]]


def cells(page: Page, column: str) -> list[str]:
    """The texts of a column of the runs table, from the top; each is shown whole."""
    found = page.locator(f".ag-row .ag-cell[col-id='{column}']").evaluate_all(
        "cells => cells.map(c => ["
        "  +c.closest('.ag-row').getAttribute('row-index'), c.innerText.trim(),"
        "  [c, ...c.querySelectorAll('*')].every(e => e.scrollWidth <= e.clientWidth"
        "    || getComputedStyle(e).display === 'inline')])"
    )
    assert all(is_whole for _, _, is_whole in found), found
    return [text for _, text, _ in sorted(found)]


def check_table(page: Page, launch: Launch, shown: str = "val_accuracy") -> None:
    """The runs of a launch with method, lambda and a measured value, the best first."""
    column = f"tags.`{shown}`"
    expect(page.locator(f".ag-row .ag-cell[col-id='{column}']")).to_have_count(
        len(launch.trials), timeout=WAIT
    )
    page.wait_for_timeout(1000)  # until the columns have their widths
    beside = shown.replace("val", "test")
    assert headers(page)[:6] == ["Run Name", "Created", "method", "lambda", shown, beside]
    is_accuracy = shown == "val_accuracy"
    ranked = sorted((r.data.metrics[shown] for r in launch.trials), reverse=is_accuracy)
    values = cells(page, column)
    assert [float(text) for text in values] == pytest.approx(ranked, abs=6e-5)
    assert all(re.fullmatch(r"\d\.\d{4}", text) for text in values)
    rows = zip(cells(page, METHOD), map(float, cells(page, LAM)), values, strict=True)
    expected = [
        (r.data.tags["method"], float(r.data.params["lambda"]), r.data.tags[shown])
        for r in launch.trials
    ]
    assert sorted(rows) == sorted(expected)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("alone", "val_accuracy"),
        ("second", "val_accuracy"),
        ("comparison", "val_accuracy"),
        ("search", "val_data_loss"),
    ],
)
def test_one_click_on_the_name_shows_the_newest_runs(
    name: str, shown: str, seen: Seen, page: Page
) -> None:
    """After each command, for a person who never was here and clicks nothing else."""
    launch = seen.launches[name]
    click_name(page, seen, launch.study)
    check_table(page, launch, shown)
    names = [run.info.run_name[:12] for run in launch.trials]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("alone", "val_accuracy"), ("first", "val_accuracy"), ("second", "val_accuracy"),
     ("comparison", "val_accuracy"), ("search", "val_data_loss")],
)  # fmt: skip
def test_the_printed_link_shows_its_runs(name: str, shown: str, seen: Seen, page: Page) -> None:
    """Also that of a sweep of which a later one has taken over some runs."""
    launch = seen.launches[name]
    page.goto(launch.link(views.RUNS, seen.ui))
    check_table(page, launch, shown)


def test_two_sweeps_share_runs(seen: Seen) -> None:
    """Of 8 runs each 4 are the same: the link of neither loses them."""
    ids = [{run.info.run_id for run in seen.launches[n].trials} for n in ("first", "second")]
    assert [len(one) for one in ids] == [8, 8]
    assert len(ids[0] & ids[1]) == 4


def test_dataset_model_and_source_are_filled(seen: Seen, page: Page) -> None:
    """They are the last columns of the table, in view where the window is wide."""
    page.set_viewport_size({"width": 2800, "height": 900})
    launch = seen.launches["first"]
    page.goto(launch.link(views.RUNS, seen.ui))
    source = page.locator(".ag-row .ag-cell[col-id='attributes.`Source`']")
    expect(source).to_have_count(len(launch.trials), timeout=WAIT)
    for column, word in (
        ("Source", "experiments.train"),
        ("Dataset", "digits"),
        ("Models", "model"),
    ):
        found = page.locator(f".ag-row .ag-cell[col-id='attributes.`{column}`']")
        expect(found.filter(has_text=word)).to_have_count(len(launch.trials), timeout=WAIT)


def points(chart: Locator) -> int:
    """How many points a chart shows; Plotly draws some of them twice, on one another."""
    places = "points => points.map(p => p.getAttribute('transform'))"
    return len(set(chart.locator("path.point").evaluate_all(places)))


def colors(chart: Locator) -> list[str]:
    """The colours of the points, as "rgb(0, 114, 178)"."""
    found = chart.locator("path.point").evaluate_all("ps => ps.map(p => p.style.fill)")
    return [str(color) for color in found]


def rgb(name: str) -> str:
    """The colour of a method as a browser writes it."""
    code = methods.COLORS[name].removeprefix("#")
    return "rgb({}, {}, {})".format(*(int(code[i : i + 2], 16) for i in (0, 2, 4)))


def test_the_charts_are_accuracy_over_lambda_by_method(seen: Seen, page: Page) -> None:
    """A point for each run, whose colour is that of its method, and curves over the epochs."""
    launch = seen.launches["first"]
    page.goto(launch.link(views.CHARTS, seen.ui))
    over_lambda = page.locator(".js-plotly-plot:has-text('log10_lambda')")
    expect(over_lambda.locator("path.point")).to_have_count(len(launch.trials), timeout=WAIT)
    shown = colors(over_lambda)
    assert {name: shown.count(rgb(name)) for name in NAMES} == dict.fromkeys(NAMES, 4)
    curves = page.locator(".js-plotly-plot:has(path.js-line)").first
    last = curves.locator("path.js-line").nth(len(launch.trials) - 1)
    expect(last).to_be_attached(timeout=WAIT)
    assert page.get_by_text("val_accuracy over lambda", exact=False).count()
    assert not page.get_by_text("No charts").count()


@pytest.mark.parametrize(("name", "charts"), [("comparison", 1), ("search", 2)])
def test_comparison_and_search_have_charts(name: str, charts: int, seen: Seen, page: Page) -> None:
    """A point for each run with a lambda; of a search for its loss and for the accuracy."""
    launch = seen.launches[name]
    page.goto(launch.link(views.CHARTS, seen.ui))
    over_lambda = page.locator(".js-plotly-plot:has-text('log10_lambda')")
    drawn = [run for run in launch.trials if "log10_lambda" in run.data.params]
    expect(over_lambda.locator("path.point")).to_have_count(len(drawn) * charts, timeout=WAIT)


def test_the_parent_has_a_curve_for_each_method(seen: Seen, page: Page) -> None:
    """The parent's charts are the mean accuracy over lambda, with a point for each lambda."""
    info = seen.launches["first"].parent.info
    page.goto(views.run_address(seen.ui, info.experiment_id, info.run_id))
    curves = page.locator(".js-plotly-plot:has(path.js-line)")
    expect(curves).to_have_count(len(NAMES) + 1, timeout=WAIT)  # and which lambdas they are
    assert [points(curve) for curve in curves.all()] == [2] * (len(NAMES) + 1)
    expect(page.get_by_text("val_accuracy over lambda", exact=True).first).to_be_visible()
    for label in LABELS:
        expect(page.get_by_role("heading", name=label, exact=True)).to_be_visible()


def test_two_runs_can_be_compared(seen: Seen, page: Page) -> None:
    """Two runs that are ticked in the table are shown side by side, parameter by parameter."""
    launch = seen.launches["first"]
    page.goto(launch.link(views.RUNS, seen.ui))
    ticks = page.locator(".ag-row .ag-checkbox-input")
    expect(ticks).not_to_have_count(0, timeout=WAIT)
    for i in (0, len(launch.trials) - 1):
        ticks.nth(i).check(force=True)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("Comparing 2 Runs from 1 Experiment")).to_be_visible(timeout=WAIT)
    text = page.locator("body").inner_text()
    for word in ("regularization.name", "log10_lambda", "weight_norm", "val_accuracy"):
        assert word in text
    shown = [run for run in launch.trials if run.info.run_id in text]
    assert len(shown) == 2
    assert all(run.info.run_name in text for run in shown)
