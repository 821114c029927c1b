"""The pages in a browser: nothing is wider than the window, in both colour schemes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from l2keras_experiments.reports import study, study_page
from tests.support.browser import chromium, executable
from tests.support.synthetic import Trial, seeds

pytestmark = pytest.mark.skipif(executable() is None, reason="needs Chromium")

METHODS = ("none", "half_l2", "decoupled", "independent", "optimizer_weight_decay")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the page of a sweep with five methods."""
    trials = [
        trial
        for index, method in enumerate(METHODS)
        for lam in (0.001, 0.01)
        for trial in seeds(Trial(method, lam), [0.8 - 0.011 * index, 0.82 - 0.012 * index, 0.9])
    ]
    folder: Path = tmp_path_factory.mktemp("page")
    found = study.build(trial.record() for trial in trials)
    shown = study_page.sections(found, {}, folder)
    page = folder / "report.html"
    page.write_text(study_page.page("name", found, shown, [], {}), encoding="utf-8")
    return page.as_uri()


def flat(heading: str) -> str:
    return " ".join(heading.split())


@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_has_the_width_of_the_window(browser: Browser, address: str, width: int) -> None:
    """Figures are as wide as the text; a table has the columns that fit, fewer on a phone."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    inner, outer = page.evaluate(
        "(box => [box.scrollWidth, box.clientWidth])(document.querySelector('.scroll'))"
    )
    assert inner == outer
    heads = page.locator("table.numbers").first.locator("th")
    seen = [head.inner_text() for head in heads.all() if head.is_visible()]
    assert {"method", "lambda", "validation accuracy", "verdict"} <= {*map(flat, seen)}
    assert (len(seen) == heads.count()) == (width == 1200)
    shown = [picture.is_visible() for picture in page.locator("figure .narrow").all()]
    assert set(shown) == {width == 390}
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_figures_follow_the_colour_scheme(browser: Browser, address: str, scheme: str) -> None:
    """Text and background of a figure are those of the page."""
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(address)
    colours = page.evaluate("""() => {
        const style = found => getComputedStyle(document.querySelector(found));
        return [style('body').backgroundColor, style('figure svg #patch_1 path').fill,
                style('body').color, style('figure svg').fill];
    }""")
    assert colours[0] == colours[1]
    assert colours[2] == colours[3]
    assert (colours[0] == "rgb(255, 255, 255)") == (scheme == "light")
    page.close()
