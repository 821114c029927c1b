"""What a study shows, in sentences and rows. Pure functions of a study."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from experiments.records import Record
from experiments.statistics import Difference, Interval
from experiments.study import Cell, Setting, Study

BESIDE = {"val_data_loss": "val data loss", "data_loss": "train data loss", "weight_norm": "||W||"}


def headlines(study: Study) -> list[str]:
    """One sentence for each setting: the best method, and which are not told from it."""
    lines = [f"{setting.label}: {_headline(setting)}" for setting in study.settings]
    return [*lines, *_across(study)]


def _headline(setting: Setting) -> str:
    leaders = setting.leaders
    if not leaders:
        return "every run diverged."
    best, *others = leaders
    close = [c.method for c in others if setting.difference(best, c).verdict != "clear"]
    rest = f"; not told apart from it: {', '.join(close)}" if close else ""
    rest = "; better than every other by more than noise" if others and not close else rest
    place = at(best) if math.isnan(best.timescale) else f"{at(best)}, {timescale(best)}"
    return f"{best.method} comes first, {best.interval(setting.metric)} {place}{rest}."


def _across(study: Study) -> Iterator[str]:
    """The best of each setting against the best of all, where all have the same data."""
    leading = [(setting, setting.leaders[0]) for setting in study.settings if setting.leaders]
    same = len({setting.metric for setting, _ in leading}) == 1
    if not same or any(key.startswith("data.") for key in study.varying):
        return
    first = leading[0][0].ranked(cell for _, cell in leading)[0]
    [top] = [setting for setting, cell in leading if cell is first]
    for setting, cell in leading:
        if cell is not first:
            found = _in_words(setting.difference(first, cell), setting)
            yield f"{top.label} against {setting.label}, each at its best: {found}."


def sentences(setting: Setting) -> list[str]:
    """Every finding of a setting."""
    leaders = setting.leaders
    if not leaders:
        return ["Every run diverged."]
    best, *others = leaders
    number = best.interval(setting.metric)
    word = "highest" if setting.higher_is_better else "lowest"
    return [
        f"{best.method} has the {word} mean {setting.metric}: {with_seeds(number)}, {at(best)}.",
        *(_behind(setting, best, other) for other in others),
        *(line for method in setting.methods for line in _as_good(setting, method)),
        *(line for method in setting.methods for line in _by_learning_rate(setting, method)),
        *_at_the_edge(setting),
    ]


def at(cell: Cell) -> str:
    """Where a cell is."""
    return f"at lambda = {cell.effective_lam:.3g}, learning rate {cell.learning_rate:.3g}"


def timescale(cell: Cell) -> str:
    return f"timescale 1/(eta*lambda) = {cell.timescale:.3g} epochs"


def with_seeds(number: Interval) -> str:
    if number.half_width is None:
        return f"{number} (one seed: no interval)"
    return f"{number} (95 % interval, {number.n} seeds)"


def _behind(setting: Setting, best: Cell, other: Cell) -> str:
    """What a method lacks to the best one, each at its best, and whether that is noise."""
    difference = setting.difference(best, other)
    own = f"{other.method} comes to {other.interval(setting.metric)}, {at(other)}"
    return f"{own}; {best.method} is {_in_words(difference, setting)}."


def _in_words(difference: Difference, setting: Setting) -> str:
    number = difference.interval
    if not number.n:
        return "not comparable: the two share no seed"
    size = Interval(abs(number.mean), number.half_width, number.n)
    side = "better" if (number.mean > 0) == setting.higher_is_better else "worse"
    seeds = f"over {number.n} paired seeds"
    return {
        "too few seeds": f"{size} {side} with the one seed they share: that says nothing of noise",
        "equal": f"equal to it {seeds}",
        "no spread": f"{size} {side} for each of {number.n} seeds: too few to tell from chance",
        "within noise": f"{size} {side} {seeds}: within noise",
        "clear": f"{size} {side} {seeds}: more than noise",
    }[difference.verdict]


def _as_good(setting: Setting, method: str) -> Iterator[str]:
    """Which lambdas of a method are not told from its best."""
    best = setting.best(method)
    if best is None:
        yield f"{method}: every run diverged."
        return
    cells = [cell for cell in setting.isolation(method) if cell.effective_lam]
    verdicts = {c.effective_lam: setting.difference(best, c).verdict for c in cells if c != best}
    near = [lam for lam, verdict in verdicts.items() if verdict in ("within noise", "equal")]
    if near:
        lams = ", ".join(f"{lam:.3g}" for lam in sorted(near))
        yield (
            f"{method}: its best lambda, {best.effective_lam:.3g}, is not told apart from {lams}: "
            "within noise."
        )


def _by_learning_rate(setting: Setting, method: str) -> Iterator[str]:
    """The best lambda, as it was written, at each learning rate; with those not told from it."""
    if not setting.has_grid(method):
        return
    found = []
    for rate in sorted({cell.learning_rate for cell in setting.of(method)}):
        there = [cell for cell in setting.of(method) if cell.learning_rate == rate]
        best = setting.best_of(there)
        if best is None:
            found.append(f"at {rate:.3g} every run diverged")
            continue
        verdicts = {cell.lam: setting.difference(best, cell).verdict for cell in there}
        near = [lam for lam, verdict in verdicts.items() if verdict != "clear" and lam != best.lam]
        beside = f" (or {', '.join(f'{lam:.3g}' for lam in sorted(near))})" if near else ""
        found.append(f"at {rate:.3g} it is {best.lam:.3g}{beside}")
    yield f"{method}: the best lambda, as written, by learning rate: {'; '.join(found)}."


def _at_the_edge(setting: Setting) -> Iterator[str]:
    """Whose best lambda or learning rate is the smallest or the largest that was tried."""
    edges = []
    for cell in setting.leaders:
        tried = [c for c in setting.of(cell.method) if c.lam > 0]
        lams, rates = {c.lam for c in tried}, {c.learning_rate for c in setting.of(cell.method)}
        found = [
            f"{name} = {shown:.3g}"
            for name, shown, value, grid in (
                ("lambda", cell.effective_lam, cell.lam, lams),
                ("learning rate", cell.learning_rate, cell.learning_rate, rates),
            )
            if len(grid) > 1 and value in (min(grid), max(grid))
        ]
        edges += [f"{cell.method} ({', '.join(found)})"] if found else []
    if edges:
        yield (
            "At an end of the grid, so that the optimum may lie beyond and the grid should be "
            f"extended: {'; '.join(edges)}."
        )


def pairs(setting: Setting) -> list[tuple[Cell, Cell, Difference]]:
    """Every two methods, each at its best: the one with the better mean first."""
    return [(a, b, setting.difference(a, b)) for a, b in itertools.combinations(setting.leaders, 2)]


def columns(setting: Setting) -> list[str]:
    first = ["method", "lambda", "learning rate", "seeds", setting.metric, "behind the best"]
    return [*first, *(title for _, title in _beside(setting)), "verdict"]


def _beside(setting: Setting) -> list[tuple[str, str]]:
    return [(key, title) for key, title in BESIDE.items() if key != setting.metric]


def leaderboard(setting: Setting, limit: int | None = None) -> list[tuple[Cell, list[str]]]:
    """Cells by their mean, with the text of their row; the best of each method is always in."""
    ranked = setting.ranked(setting.cells)
    leaders = setting.leaders
    shown = [c for i, c in enumerate(ranked) if limit is None or i < limit or c in leaders]
    return [(cell, _row(setting, cell, leaders[0] if leaders else cell)) for cell in shown]


def _row(setting: Setting, cell: Cell, best: Cell) -> list[str]:
    difference = setting.difference(best, cell)
    number = cell.interval(setting.metric)
    diverged = math.isnan(number.mean)
    behind = difference.interval
    if not setting.higher_is_better:
        behind = Interval(-behind.mean, behind.half_width, behind.n)
    verdict = "diverged" if diverged else "the best" if cell is best else difference.verdict
    return [
        cell.method,
        f"{cell.effective_lam:.3g}",
        f"{cell.learning_rate:.3g}",
        str(len(cell.runs)),
        str(number),
        "" if cell is best or diverged or not behind.n else str(behind),
        *(_mean(cell, metric) for metric, _ in _beside(setting)),
        {"clear": "behind", "no spread": "too few seeds"}.get(verdict, verdict),
    ]


def _mean(cell: Cell, metric: str) -> str:
    known = [value for value in cell.values(metric).values() if not math.isnan(value)]
    return f"{sum(known) / len(known):.4g}" if known else "-"


def summary_metrics(study: Study) -> dict[str, float]:
    """For the parent run: each method's best mean, half width and lambda, by setting."""
    found = {}
    for setting in study.settings:
        for cell in setting.leaders:
            number = cell.interval(setting.metric)
            key = f"{_key(setting.label)}{cell.method}"
            found[f"{key}.best_{setting.metric}"] = number.mean
            found[f"{key}.best_lambda"] = cell.effective_lam
            if number.half_width is not None:
                found[f"{key}.ci95_half_width"] = number.half_width
    return found


def curves(study: Study) -> Iterator[tuple[str, int, float]]:
    """For the parent run: each method's mean over lambda, as (metric, step, value).

    The step counts the lambdas from 0, as MLflow has whole numbers there and draws a bar in the
    place of a line that ends below 1; the curve `log10_lambda` tells which lambda it is.
    """
    for setting in study.settings:
        section = f"{_key(setting.label)}{setting.metric} over lambda"
        lams = sorted({cell.effective_lam for cell in setting.cells if cell.effective_lam})
        yield from ((f"{section}/log10_lambda", i, math.log10(lam)) for i, lam in enumerate(lams))
        for method in setting.methods:
            for cell in setting.isolation(method):
                mean = cell.interval(setting.metric).mean
                if cell.effective_lam and math.isfinite(mean):
                    yield f"{section}/{method}", lams.index(cell.effective_lam), mean


def _key(label: str) -> str:
    """A setting's label in the characters that MLflow takes."""
    words = label.replace("=", " ").replace(",", "")
    kept = "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in words)
    return f"{kept}/" if kept else ""


def failure(record: Record) -> list[str]:
    """A run that is missing: its name, what became of it, and why."""
    unknown = {
        "RUNNING": "still running, or its process died without a word",
        "KILLED": "stopped by Ctrl-C or SIGTERM",
    }
    why = record.tags.get("failure") or unknown.get(record.status, "see its traceback.txt")
    return [record.name, record.status, why, record.id]
