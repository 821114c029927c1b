"""What a study shows, in sentences and rows. Pure functions of a study."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from experiments.records import Record
from experiments.statistics import Difference, Interval
from experiments.study import Cell, Setting, Study

COLUMNS = (
    "method",
    "lambda",
    "learning rate",
    "seeds",
    "{metric}",
    "behind the best",
    "val data loss",
    "train data loss",
    "||W||",
    "verdict",
)
METRICS = ("val_data_loss", "data_loss", "weight_norm")


def sentences(study: Study) -> list[str]:
    """Every finding, setting by setting."""
    if not study.settings:
        return ["No run has finished yet: nothing to compare."]
    found = []
    for setting in study.settings:
        prefix = f"{setting.label}: " if setting.label else ""
        found += [prefix + sentence for sentence in _of_setting(setting)]
    return found


def _of_setting(setting: Setting) -> Iterator[str]:
    leaders = setting.leaders()
    if not leaders:
        yield "every run diverged."
        return
    best, *others = leaders
    number = best.interval(setting.metric)
    word = "highest" if setting.higher_is_better else "lowest"
    yield f"{best.method} has the {word} mean {setting.metric}: {with_seeds(number)}, {at(best)}."
    for other in others:
        yield _behind(setting, best, other)
    for method in setting.methods:
        yield from _of_method(setting, method)


def at(cell: Cell) -> str:
    """Where a cell is."""
    return f"at lambda = {cell.effective_lam:g}, learning rate {cell.learning_rate:g}"


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


def _of_method(setting: Setting, method: str) -> Iterator[str]:
    """Which lambdas are as good as the best, and whether the best is at the end of the grid."""
    cells = [cell for cell in setting.isolation(method) if cell.effective_lam > 0]
    best = setting.best(method)
    if best is None:
        yield f"{method}: every run diverged."
        return
    if len(cells) > 1 and best in cells:
        near = [c for c in cells if c is best or _as_good(setting, best, c)]
        if len(near) > 1 and len(best.runs) > 1:
            lams = ", ".join(f"{cell.effective_lam:g}" for cell in near)
            yield f"{method}: the lambdas {lams} are within noise of each other's best."
        yield from _edges(method, "lambda", best.effective_lam, [c.effective_lam for c in cells])
    rates = [cell.learning_rate for cell in setting.of(method)]
    yield from _edges(method, "learning rate", best.learning_rate, rates)


def _as_good(setting: Setting, best: Cell, cell: Cell) -> bool:
    return setting.difference(best, cell).verdict in ("within noise", "equal")


def _edges(method: str, what: str, best: float, tried: Sequence[float]) -> Iterator[str]:
    low, high = min(tried), max(tried)
    if low < high and best in (low, high):
        end = "smallest" if best == low else "largest"
        yield (
            f"{method}: its best {what} is the {end} tried, {best:g}; the optimum may lie beyond. "
            "Extend the grid."
        )


def pairs(setting: Setting) -> list[tuple[Cell, Cell, Difference]]:
    """Every two methods, each at its best: the one with the better mean first."""
    return [
        (a, b, setting.difference(a, b)) for a, b in itertools.combinations(setting.leaders(), 2)
    ]


def columns(setting: Setting) -> list[str]:
    return [column.format(metric=setting.metric) for column in COLUMNS]


def leaderboard(setting: Setting, limit: int | None = None) -> list[tuple[Cell, list[str]]]:
    """Cells by their mean, with the text of their row; the best of each method is always in."""
    ranked = setting.ranked(setting.cells)
    leaders = setting.leaders()
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
        f"{cell.effective_lam:g}",
        f"{cell.learning_rate:g}",
        str(len(cell.runs)),
        str(number),
        "" if cell is best or diverged or not behind.n else str(behind),
        *(_mean(cell, metric) for metric in METRICS),
        {"clear": "behind", "no spread": "too few seeds"}.get(verdict, verdict),
    ]


def _mean(cell: Cell, metric: str) -> str:
    known = [value for value in cell.values(metric).values() if not math.isnan(value)]
    return f"{sum(known) / len(known):.4g}" if known else "-"


def summary_metrics(study: Study) -> dict[str, float]:
    """For the parent run: each method's best mean, half width and lambda, by setting."""
    found = {}
    for setting in study.settings:
        for cell in setting.leaders():
            number = cell.interval(setting.metric)
            key = f"{_key(setting.label)}{cell.method}"
            found[f"{key}.best_{setting.metric}"] = number.mean
            found[f"{key}.best_lambda"] = cell.effective_lam
            if number.half_width is not None:
                found[f"{key}.ci95_half_width"] = number.half_width
    return found


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
