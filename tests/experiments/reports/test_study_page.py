"""The figures and the page of a study, read back from what was drawn and written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from l2keras_experiments.reports import drawing, findings, study, study_page
from l2keras_experiments.reports.figures import curves, maps, results, timescales
from l2keras_experiments.reports.study import Study
from tests.support.synthetic import Trial, seeds


def study_of(trials: Iterable[Trial]) -> Study:
    return study.build(trial.record() for trial in trials)


GRID = [
    *seeds(Trial("none", 0.0), [0.5, 0.6]),
    *seeds(Trial("half_l2", 0.1), [0.7, 0.8]),
    *seeds(Trial("half_l2", 0.2), [0.8, 0.9]),
    *seeds(Trial("half_l2", 0.1, learning_rate=0.05), [0.6, 0.7]),
    *seeds(Trial("half_l2", 0.2, learning_rate=0.05), [0.5, 0.5]),
]


def points(line: Line2D) -> tuple[list[float], list[float]]:
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_isolation_draws_means_and_intervals() -> None:
    """A method's curve goes through the means of the best rate, the bars span its two seeds."""
    figure = results.isolation(study_of(GRID).settings)
    [axes] = figure.axes
    curve = next(line for line in axes.lines if line.get_label() == "HalfL2")
    assert points(curve)[0] == pytest.approx([0.1, 0.2])
    assert points(curve)[1] == pytest.approx([0.75, 0.85])
    [bars] = [c for c in axes.collections if len(c.get_paths()) == 2]
    heights = [np.asarray(path.vertices)[:, 1].tolist() for path in bars.get_paths()]
    for (low, high), mean in zip(heights, (0.75, 0.85), strict=True):
        assert (low, high) == pytest.approx((mean - 0.05, mean + 0.05))
    assert axes.get_xscale() == "log"
    assert axes.get_ylim()[1] <= 1.02
    assert labels(figure) == ["none", "HalfL2"]


def test_a_star_is_the_test_value_of_what_validation_selects() -> None:
    """One for each method, at its best lambda; the legend says what it is."""
    accuracies = {0.1: (0.9, 0.7), 0.2: (0.8, 0.75)}
    records = [Trial(lam=lam, accuracy=val).record() for lam, (val, _) in accuracies.items()]
    tested = [
        replace(record, metrics={**record.metrics, "test_accuracy": test})
        for record, (_, test) in zip(records, accuracies.values(), strict=True)
    ]
    figure = results.isolation(study.build(tested).settings)
    stars = [line for line in figure.axes[0].lines if line.get_marker() == "*"]
    assert [points(line) for line in stars] == [([0.1], [0.7]), ([], [])]
    assert labels(figure) == ["HalfL2", "test accuracy at the best lambda"]


def test_lambda_zero_is_a_line_and_a_band() -> None:
    """`none` has no place on the logarithmic axis: a line at its mean across all of it."""
    [axes] = results.isolation(study_of(GRID).settings).axes
    line = next(line for line in axes.lines if line.get_label() == "none")
    assert points(line)[1] == pytest.approx([0.55, 0.55])
    band = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (band.y0, band.y1) == pytest.approx((0.5, 0.6), abs=1e-4)  # of two seeds the range


def test_methods_at_one_lambda_stand_side_by_side() -> None:
    """Two methods at the same lambda are drawn around it, a lonely one exactly at its lambda."""
    trials = [Trial(method, lam) for method in ("half_l2", "decoupled") for lam in (0.1, 1.0)]
    [axes] = results.isolation(study_of([*trials, Trial("coupled", 0.3)]).settings).axes
    places = {line.get_label(): points(line)[0] for line in axes.lines}
    assert places["WeightDecay decoupled"][0] < 0.1 < places["HalfL2"][0] < 0.11
    assert places["WeightDecay decoupled"][0] * places["HalfL2"][0] == pytest.approx(0.01)
    assert places["WeightDecay coupled"] == [0.3]


def test_every_setting_has_a_panel() -> None:
    """Settings are panels of one figure, under their labels."""
    sizes = [{"training.batch_size": size} for size in ("8", "16", "32", "64")]
    trials = [Trial(lam=lam, others=other) for other in sizes for lam in (0.1, 0.2)]
    figure = results.isolation(study_of(trials).settings)
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert titles == [f"batch_size={size}" for size in (8, 16, 32, 64)]


def test_long_labels_become_numbers() -> None:
    """A label that no panel has room for is a number in the figure, explained in the text."""
    found = study_of(Trial(others={"training.batch_size": size}) for size in ("8", "16"))
    settings = [replace(one, label=f"{one.label} and{'.' * 40}") for one in found.settings]
    assert [axes.get_title() for axes in results.isolation(settings).axes] == [
        "setting 1",
        "setting 2",
    ]
    assert findings.titles(settings)[1] == f"setting 2 ({settings[1].label})"


def test_the_heat_map_shows_every_mean() -> None:
    """Learning rates upwards, lambdas to the right, the best cell framed, bright is good."""
    [setting] = study_of(GRID).settings
    assert maps.with_grid(setting) == ["half_l2"]
    axes = maps.heat_map(setting).axes[0]
    means = axes.images[0].get_array()
    assert means is not None
    assert means.tolist() == [pytest.approx([0.65, 0.5]), pytest.approx([0.75, 0.85])]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0.05", "0.5"]
    assert {text.get_text() for text in axes.texts} == {"0.650", "0.500", "0.750", "0.850"}
    frame = axes.patches[0]
    assert isinstance(frame, Rectangle)
    assert frame.get_xy() == (0.5, 0.5)


def test_a_lambda_that_hangs_on_the_rate_is_shown_as_written() -> None:
    """For independent decay the columns are what was written, not the effective lambda."""
    trials = [
        Trial("independent", lam, rate, others={"lambda": str(lam / rate)})
        for lam in (0.1, 0.2)
        for rate in (0.5, 0.25)
    ]
    [setting] = study_of(trials).settings
    axes = maps.heat_map(setting).axes[0]
    assert axes.get_xlabel() == "lambda as written"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.1", "0.2"]


def test_scattered_pairs_are_no_heat_map() -> None:
    """Lambdas and rates drawn at random have no grid, and so no map that is mostly holes."""
    [setting] = study_of(Trial(lam=0.1 * i, learning_rate=0.01 * i) for i in range(1, 6)).settings
    assert maps.with_grid(setting) == []


def test_differences_are_drawn_with_their_verdict() -> None:
    """A point at the mean difference, and in words what it is worth."""
    trials = [
        *seeds(Trial("half_l2", accuracy=None), [1.0, 2.0, 3.0]),
        *seeds(Trial("decoupled", accuracy=None), [1.5, 2.51, 3.49]),
    ]
    [setting] = study_of(trials).settings
    [axes] = results.differences(setting).axes
    assert points(axes.lines[0])[0] == pytest.approx([0.5])
    assert [text.get_text() for text in axes.texts] == ["significant difference, 3 seeds"]
    assert axes.get_yticklabels()[0].get_text() == "HalfL2 over WeightDecay decoupled"
    assert "lower" in axes.get_xlabel()


def test_curves_average_the_seeds() -> None:
    """Each epoch's mean over the seeds, epochs counted from one."""
    [setting] = study_of(seeds(Trial(), [0.7, 0.8])).settings
    [cell] = setting.cells
    first, second = (record.id for record in cell.runs.values())
    histories = {
        (first, "data_loss"): {0: 4.0, 1: 2.0, 2: 1.0},
        (second, "data_loss"): {0: 2.0, 1: 1.0},  # ended earlier
    }
    found = curves.over_seeds(cell, "data_loss", histories)
    assert {epoch: number.mean for epoch, number in found.items()} == {1: 3.0, 2: 1.5}
    figure = curves.curves([cell], histories)
    assert points(figure.axes[0].lines[0])[1] == [3.0, 1.5]
    assert labels(figure) == ["HalfL2, lambda 0.1, rate 0.5"]


def test_every_method_has_a_look_of_its_own() -> None:
    """Colours differ between the methods, and a method nobody knows still gets one."""
    colours = [look["color"] for look in drawing.LOOKS.values()]
    assert len(set(colours)) == len(colours)
    assert results.look_of("mine")["color"] in results.EXTRA


def test_curves_that_coincide_have_other_markers() -> None:
    """The markers of two methods differ in epoch and in size."""
    trials = [*seeds(Trial(), [0.7]), *seeds(Trial("coupled"), [0.7])]
    [setting] = study_of(trials).settings
    histories = {
        (record.id, "data_loss"): dict.fromkeys(range(32), 1.0)
        for cell in setting.cells
        for record in cell.runs.values()
    }
    lines = curves.curves(setting.leaders, histories).axes[0].lines
    assert [line.get_markevery() for line in lines] == [(0, 4), (2, 4)]
    assert [line.get_markersize() for line in lines] == [6, 4]


def page_of(found: Study, folder: Path) -> str:
    shown = study_page.sections(found, {}, folder)
    return study_page.page("name", found, shown, ["python -m this"], {"git_commit": "abc"})


def test_the_page_stands_alone(tmp_path: Path) -> None:
    """Figures are inside it, nothing points outside, and what was asked for is there."""
    failed = Trial(seed=9, status="FAILED", tags={"failure": "ValueError: <nan>"})
    html = page_of(study_of([*GRID, failed]), tmp_path)
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"|<!DOCTYPE[^>]*>', "", html)
    assert not re.search(r'(src|href)="(?!#|data:)', without_namespaces)
    assert "<script" not in html
    assert html.count("<svg") == 6  # isolation, differences, heat map: wide and narrow
    assert "HalfL2 has the highest mean validation accuracy: 0.85" in html
    assert "ValueError: &lt;nan&gt;" in html
    assert "python -m this" in html
    assert "git_commit: abc" in html


def test_figures_follow_the_colours_of_the_page(tmp_path: Path) -> None:
    """Neither black nor white is left in a figure, and each has a text alternative."""
    html = page_of(study_of(GRID), tmp_path)
    figures = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert all("#000000" not in figure and "#ffffff" not in figure for figure in figures)
    assert len(re.findall(r'role="img" aria-label="[A-Z]', html)) == len(figures) == 6
    assert "prefers-color-scheme: dark" in html


@pytest.mark.parametrize("name", ["isolation", "differences", "heat_map"])
def test_text_is_readable_on_a_phone(name: str) -> None:
    """A narrow figure of 4.2 inches is shown 358 pixels wide: text of 9.3 points has 11 pixels."""
    [setting] = study_of(GRID).settings
    figure = {
        "isolation": lambda: results.isolation([setting], narrow=True),
        "differences": lambda: results.differences(setting, narrow=True),
        "heat_map": lambda: maps.heat_map(setting, narrow=True),
    }[name]()
    sizes = {
        float(text.get_fontsize())
        for text in figure.findobj(Text)
        if isinstance(text, Text) and text.get_text() and text.get_visible()
    }
    assert min(sizes) * 358 / (72 * figure.get_figwidth()) >= 11


def test_the_figures_are_files_too(tmp_path: Path) -> None:
    """Every figure is an SVG that parses and a PNG."""
    study_page.sections(study_of(GRID), {}, tmp_path)
    for name in ("isolation", "differences", "heat_map"):
        assert ElementTree.parse(tmp_path / f"{name}.svg").getroot().tag.endswith("svg")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_study_gives_the_same_page(tmp_path: Path) -> None:
    """Nothing on the page depends on when it was made."""
    assert page_of(study_of(GRID), tmp_path) == page_of(study_of(reversed(GRID)), tmp_path)


def test_a_page_without_a_finished_run(tmp_path: Path) -> None:
    """What failed is shown even where nothing finished."""
    html = page_of(study_of([Trial(status="KILLED")]), tmp_path)
    assert "No run has finished yet" in html
    assert "stopped by Ctrl-C or SIGTERM" in html


def test_a_long_leaderboard_says_how_many_rows_it_leaves_out(tmp_path: Path) -> None:
    """32 lambdas, and room for 30 rows."""
    html = page_of(study_of(Trial(lam=0.01 * i) for i in range(1, 33)), tmp_path)
    assert "2 more rows are in leaderboard.json" in html


def test_a_page_of_what_diverged(tmp_path: Path) -> None:
    """A study whose every run diverged still has its page."""
    html = page_of(study_of([Trial(accuracy=float("nan")), Trial("none", accuracy=0.5)]), tmp_path)
    assert "HalfL2: every run diverged." in html
    assert "Every run diverged." in page_of(study_of([Trial(accuracy=float("nan"))]), tmp_path)


def lengths() -> list[Trial]:
    """Two batch sizes, best at one lambda and at timescales that differ by four."""
    return [
        trial
        for size, epochs in (("16", 1.0), ("64", 4.0))
        for lam, mean in ((0.1, 0.7), (0.2, 0.9), (0.4, 0.5))
        for trial in seeds(
            Trial(lam=lam, others={
                "training.batch_size": size, "timescale_epochs": str(epochs / lam)
            }),
            [mean - 0.01, mean + 0.01],
        )
    ]  # fmt: skip


def test_timescales_are_drawn_beside_lambdas(tmp_path: Path) -> None:
    """Curves that peak at one lambda peak at two timescales, where batches or training grow."""
    found = study_of(lengths())
    assert timescales.asked(found)
    over_lambda, over_time = timescales.timescales(found.settings).axes
    peaks = [
        [points(line)[0][0] for line in axes.lines if line.get_markersize() == 8]
        for axes in (over_lambda, over_time)
    ]
    assert peaks == [[0.2, 0.2], pytest.approx([5.0, 20.0])]
    first = study_page.sections(found, {}, tmp_path)[0]
    assert "timescale 1/(eta*lambda) = 20 epochs" in first.findings[1]
    assert (tmp_path / "timescales.png").exists()
    assert not timescales.asked(study_of(GRID))
