"""From a study to its figures and its page. Writes files, reads none."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from l2keras_experiments.config import methods
from l2keras_experiments.reports import drawing, findings
from l2keras_experiments.reports.figures import curves, maps, results, timescales
from l2keras_experiments.reports.figures.curves import Histories
from l2keras_experiments.reports.page import FigureOnPage, render
from l2keras_experiments.reports.records import Record
from l2keras_experiments.reports.study import Cell, Setting, Study
from l2keras_experiments.runtime.naming import component

RESULTS = "Results"
BARS = "95 % intervals (of two seeds: their range)"
DETAILED = 12  # settings with figures of their own
ROWS = 30  # of a leaderboard on the page
READING = (
    "Intervals are 95 % confidence intervals over seeds (Student's t). Two seeds are too few for "
    "one: their range stands in its place. Methods are compared seed by seed, each at its best "
    "lambda and learning rate. The validation examples select both. The test value of the selected "
    "ones is therefore an unbiased estimate. Their validation value is optimistic, most for the "
    "method with the largest grid. The intervals are not corrected for multiple comparisons: one "
    "in twenty misses by chance."
)


@dataclass(frozen=True)
class Row:
    """A line of a table and its classes in the style sheet."""

    cells: Sequence[str]
    classes: str = ""


@dataclass(frozen=True)
class Section:
    """One setting on the page, or the overview.

    Attributes:
        columns, rows: The leaderboard.
        left_out: How many rows the page omits.
        narrow: The columns that a phone shows.
    """

    title: str
    findings: Sequence[str]
    figures: Sequence[FigureOnPage]
    columns: Sequence[str] = ()
    rows: Sequence[Row] = ()
    left_out: int = 0
    narrow: Sequence[str] = ()


def plotted(study: Study) -> list[Record]:
    """The runs whose histories the figures need: the best cell of each method."""
    settings = study.settings[:DETAILED]
    cells = [cell for setting in settings for cell in setting.leaders]
    return [record for cell in cells for record in cell.runs.values()]


def sections(study: Study, histories: Histories, folder: Path) -> list[Section]:
    """The results, setting by setting; the figures also as files in `folder`."""
    settings = study.settings[:DETAILED]
    if not settings:
        return [Section(RESULTS, ["No run has finished yet."], [])]
    overview = _isolation(settings, folder)
    if len(study.settings) == 1:
        return [_section(RESULTS, settings[0], [overview], histories, folder)]
    lines = findings.headlines(study)
    if len(study.settings) > DETAILED:
        lines.append(f"Figures show the first {DETAILED} of {len(study.settings)} settings.")
    found = [Section(RESULTS, lines, [overview, *_timescales(study, folder)])]
    for title, setting in zip(findings.titles(settings), settings, strict=True):
        found.append(_section(title, setting, [], histories, folder))
    return found


def _section(
    title: str,
    setting: Setting,
    first: Sequence[FigureOnPage],
    histories: Histories,
    folder: Path,
) -> Section:
    leaders = setting.leaders
    rows = [
        Row(cells, "best" if cell in leaders else "")
        for cell, cells in findings.leaderboard(setting, ROWS)
    ]
    figures = [*first, *_figures(setting, histories, folder)]
    left_out = len(setting.cells) - len(rows)
    columns = findings.columns(setting)
    said, narrow = findings.sentences(setting), findings.narrow(setting)
    return Section(title, said, figures, columns, rows, left_out, narrow)


def _on_page(
    name: str, title: str, caption: str, draw: Callable[[bool], Figure], folder: Path
) -> FigureOnPage:
    """A figure for wide windows and phones; the wide one also as files."""
    narrow = drawing.svg(draw(True), salt=f"{name} narrow")
    return FigureOnPage(name, title, caption, drawing.save(draw(False), folder, name), narrow)


def _isolation(settings: Sequence[Setting], folder: Path) -> FigureOnPage:
    several = any(len(setting.seeds) > 1 for setting in settings)
    what = f"Points are means, bars {BARS} over the seeds." if several else "One seed each."
    lines = [what, "The filled marker is the best lambda of a method."]
    tests = [s.test_title for s in settings for c in s.leaders if c.measured(s.test_metric)]
    if tests:
        lines.append(f"The star is its {' or '.join(dict.fromkeys(tests))}.")
    if any(not cell.effective_lam for setting in settings for cell in setting.cells):
        lines.append("The dotted line with its band is lambda = 0.")
    if any(len(setting.learning_rates) > 1 for setting in settings):
        lines.append("Each lambda has the learning rate with the best mean.")
    if any(len(setting.methods) > 1 for setting in settings):
        lines.append("Points at the same lambda are drawn side by side.")
    metric = " or ".join(dict.fromkeys(setting.metric_title for setting in settings))
    return _on_page(
        "isolation",
        f"{metric.capitalize()} over lambda",
        " ".join(lines),
        functools.partial(results.isolation, settings),
        folder,
    )


def _timescales(study: Study, folder: Path) -> Iterator[FigureOnPage]:
    if timescales.asked(study):
        yield _on_page(
            "timescales",
            "Best lambda and best timescale",
            "Each setting's best method at its best learning rate, over lambda and over the "
            "timescale 1/(eta*lambda) in epochs. The filled marker is the best. Settings whose "
            "best lies at one place on an axis have the same optimum on that axis.",
            functools.partial(timescales.timescales, study.settings),
            folder,
        )


def _figures(setting: Setting, histories: Histories, folder: Path) -> Iterator[FigureOnPage]:
    suffix = f"_{component(setting.label)}" if setting.label else ""
    leaders = setting.leaders
    if any(difference.interval.n for _, _, difference in findings.pairs(setting)):
        yield _on_page(
            f"differences{suffix}",
            "Differences between methods",
            "Each method at its best lambda and learning rate. Points are mean differences over "
            "the seeds, bars 95 % intervals. A filled point is a significant difference: its "
            "interval excludes zero.",
            functools.partial(results.differences, setting),
            folder,
        )
    if maps.with_grid(setting):
        yield _on_page(
            f"heat_map{suffix}",
            f"{setting.metric_title.capitalize()} over learning rate and lambda",
            "Means over the seeds. The frame is the best cell of a method. The worst fifth of the "
            "cells shares one colour.",
            functools.partial(maps.heat_map, setting),
            folder,
        )
    if any(record.id in {run_id for run_id, _ in histories} for record in _runs(leaders)):
        alternate = " The markers of curves that coincide differ in size and place."
        apart = alternate if len(leaders) > 1 else ""
        yield _on_page(
            f"curves{suffix}",
            "Losses, penalty and norm over the epochs",
            f"Each method at its best lambda and learning rate. Lines are means, bands {BARS} over "
            f"the seeds. Losses exclude the penalty.{apart}",
            functools.partial(curves.curves, leaders, histories),
            folder,
        )


def _runs(cells: Sequence[Cell]) -> list[Record]:
    return [record for cell in cells for record in cell.runs.values()]


def page(
    name: str,
    study: Study,
    shown: Sequence[Section],
    commands: Sequence[str],
    provenance: Mapping[str, str],
    subtitle: str = "",
    searches: Sequence[Sequence[str]] = (),
    only_searches: bool = False,
) -> str:
    """The page as HTML: no script, no link to anything outside itself.

    Args:
        name: Of the study.
        subtitle: The sweep, if the page is of one.
        searches: Rows of the table of searches.
        only_searches: Whether the study has no other runs than those of searches.
    """
    return render(
        "study.html.j2",
        title=f"Study {name}",
        subtitle=subtitle,
        searches=[Row(row) for row in searches],
        only_searches=only_searches,
        options=_options(study),
        summary=summary(study),
        reading=READING,
        sections=shown,
        failed=[Row(findings.failure(record)) for record in study.failed],
        commands=commands,
        provenance=provenance,
        fixed=study.fixed,
    )


def summary(study: Study) -> str:
    """The numbers of runs, methods, cells and seeds, in one sentence."""
    seeds = sorted({seed for setting in study.settings for seed in setting.seeds})
    labels = [methods.label(method) for method in _methods(study)]
    cells = sum(len(setting.cells) for setting in study.settings)
    about = [study.fixed[key] for key in ("data.name", "model.name") if key in study.fixed]
    parts = [
        f"{len(study.runs)} finished runs",
        *([" and ".join(about)] if about else []),
        f"{_count(labels, 'method')} ({', '.join(labels)})",
        f"{cells} combinations of method, lambda and learning rate",
        _count(seeds, "seed"),
    ]
    if study.varying:
        parts.append(f"{len(study.settings)} settings of {', '.join(study.varying)}")
    return "; ".join(parts) + "."


def _methods(study: Study) -> list[str]:
    return sorted({method for setting in study.settings for method in setting.methods})


def _options(study: Study) -> str:
    """The option of each method whose label is another word."""
    known = [m for m in _methods(study) if methods.label(m) != m]
    return ", ".join(f"{methods.label(m)} is regularization={m}" for m in known)


def _count(items: Sequence[object], word: str) -> str:
    return f"{len(items)} {word}{'' if len(items) == 1 else 's'}"
