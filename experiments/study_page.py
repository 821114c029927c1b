"""From a study to its figures and its page. Writes files, reads none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments import (
    drawing,
    findings,
    study_curves,
    study_maps,
    study_plots,
    study_timescales,
)
from experiments.naming import component
from experiments.page import FigureOnPage, render
from experiments.records import Record
from experiments.study import Cell, Setting, Study
from experiments.study_curves import Histories

DETAILED = 12  # settings with figures of their own
ROWS = 30  # of a leaderboard on the page
READING = (
    "Intervals are 95 % confidence intervals over seeds by Student's t; with few seeds they are "
    "wide. Methods are compared seed by seed, each at its best lambda and learning rate. Those "
    "were chosen on the very seeds that are shown, which flatters every method, the one with the "
    "larger grid most. One in twenty intervals misses the truth by chance; they are not corrected "
    "for their number."
)


@dataclass(frozen=True)
class Row:
    """A line of a table and its classes in the style sheet."""

    cells: Sequence[str]
    classes: str = ""


@dataclass(frozen=True)
class Section:
    """One setting on the page, or what comes before all; `left_out` counts rows not shown."""

    title: str
    findings: Sequence[str]
    figures: Sequence[FigureOnPage]
    columns: Sequence[str] = ()
    rows: Sequence[Row] = ()
    left_out: int = 0


def plotted(study: Study) -> list[Record]:
    """The runs whose histories the figures need: the best cell of each method."""
    settings = study.settings[:DETAILED]
    cells = [cell for setting in settings for cell in setting.leaders]
    return [record for cell in cells for record in cell.runs.values()]


def sections(study: Study, histories: Histories, folder: Path) -> list[Section]:
    """What came out, setting by setting; the figures also as files in `folder`."""
    settings = study.settings[:DETAILED]
    if not settings:
        return [Section("What came out", ["No run has finished yet: nothing to compare."], [])]
    overview = _isolation(settings, folder)
    if len(study.settings) == 1:
        return [_section("What came out", settings[0], [overview], histories, folder)]
    lines = findings.headlines(study)
    if len(study.settings) > DETAILED:
        lines.append(f"Figures: of the first {DETAILED} of {len(study.settings)} settings.")
    found = [Section("What came out", lines, [overview, *_timescales(study, folder)])]
    for setting in settings:
        found.append(_section(setting.label, setting, [], histories, folder))
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
    return Section(title, findings.sentences(setting), figures, columns, rows, left_out)


def _isolation(settings: Sequence[Setting], folder: Path) -> FigureOnPage:
    rates = any(len(setting.learning_rates) > 1 for setting in settings)
    chosen = " For each lambda the learning rate with the best mean was taken." if rates else ""
    without = any(not cell.effective_lam for setting in settings for cell in setting.cells)
    zero = " The dotted line and its band are lambda = 0." if without else ""
    several = any(len(setting.seeds) > 1 for setting in settings)
    what = "Mean and 95 % interval over the seeds" if several else "One seed, hence no intervals"
    metric = " or ".join(dict.fromkeys(setting.metric for setting in settings))
    return FigureOnPage(
        "isolation",
        f"{metric} over lambda",
        f"{what}; the filled marker is a method's best lambda.{zero}{chosen} Points "
        "of one lambda are set apart a little, so that they can be seen.",
        drawing.save(study_plots.isolation(settings), folder, "isolation"),
    )


def _timescales(study: Study, folder: Path) -> Iterator[FigureOnPage]:
    if study_timescales.asked(study):
        yield FigureOnPage(
            "timescales",
            "What stays: lambda, or the timescale?",
            "Each setting's best method at its best learning rate, over lambda and over "
            "1/(eta*lambda) in epochs. Curves with their best, the filled marker, at one place on "
            "an axis agree on what that axis shows.",
            drawing.save(study_timescales.timescales(study.settings), folder, "timescales"),
        )


def _figures(setting: Setting, histories: Histories, folder: Path) -> Iterator[FigureOnPage]:
    suffix = f"_{component(setting.label)}" if setting.label else ""
    leaders = setting.leaders
    if any(difference.interval.n for _, _, difference in findings.pairs(setting)):
        yield FigureOnPage(
            f"differences{suffix}",
            "Methods against each other",
            "Each method at its best lambda and learning rate. Filled: the interval of the paired "
            "differences leaves out zero. Hollow: it does not, or there are too few seeds.",
            drawing.save(study_plots.differences(setting), folder, f"differences{suffix}"),
        )
    if study_maps.with_grid(setting):
        yield FigureOnPage(
            f"heat_map{suffix}",
            f"{setting.metric} over learning rate and lambda",
            "The mean over the seeds; the frame is a method's best cell. The worst fifth of the "
            "cells shares one colour.",
            drawing.save(study_maps.heat_map(setting), folder, f"heat_map{suffix}"),
        )
    if any(record.id in {run_id for run_id, _ in histories} for record in _runs(leaders)):
        yield FigureOnPage(
            f"curves{suffix}",
            "Losses, penalty and norm over the epochs",
            "Each method at its best lambda and learning rate; mean and 95 % interval over the "
            "seeds. The losses are without the penalty.",
            drawing.save(study_curves.curves(leaders, histories), folder, f"curves{suffix}"),
        )


def _runs(cells: Sequence[Cell]) -> list[Record]:
    return [record for cell in cells for record in cell.runs.values()]


def page(
    name: str,
    study: Study,
    shown: Sequence[Section],
    commands: Sequence[str],
    provenance: Mapping[str, str],
) -> str:
    """The page as HTML: no script, no link to anything outside itself."""
    return render(
        "study.html.j2",
        title=f"Study {name}",
        summary=summary(study),
        reading=READING,
        sections=shown,
        failed=[Row(findings.failure(record)) for record in study.failed],
        commands=commands,
        provenance=provenance,
        fixed=study.fixed,
    )


def summary(study: Study) -> str:
    """How much there is of what, in one sentence."""
    seeds = sorted({seed for setting in study.settings for seed in setting.seeds})
    methods = sorted({method for setting in study.settings for method in setting.methods})
    cells = sum(len(setting.cells) for setting in study.settings)
    about = [study.fixed[key] for key in ("data.name", "model.name") if key in study.fixed]
    parts = [
        f"{len(study.runs)} finished runs",
        *([" and ".join(about)] if about else []),
        f"{_count(methods, 'method')} ({', '.join(methods)})",
        f"{cells} combinations of method, lambda and learning rate",
        _count(seeds, "seed"),
    ]
    if study.varying:
        parts.append(f"{len(study.settings)} settings of {', '.join(study.varying)}")
    return "; ".join(parts) + "."


def _count(items: Sequence[object], word: str) -> str:
    return f"{len(items)} {word}{'' if len(items) == 1 else 's'}"
