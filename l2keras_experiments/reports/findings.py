"""The findings of a study, as sentences and rows. Pure functions of a study."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from l2keras_experiments.config.methods import label
from l2keras_experiments.reports.records import Record
from l2keras_experiments.reports.statistics import Difference, Interval
from l2keras_experiments.reports.study import ACCURACY, DATA_LOSS, Cell, Setting, Study, names

BESIDE = {
    ACCURACY: "validation accuracy",
    DATA_LOSS: "validation data loss",
    "data_loss": "training data loss",
    "weight_norm": "||W||",
}
BEST, DIFFERENCE = "best", "difference to the best"
NEAR = ("within noise", "equal")  # verdicts of a difference that is not significant
# What the verdict of a paired difference is called. "no spread" is what few seeds give.
VERDICTS = {
    "clear": "significant difference",
    "within noise": "no significant difference",
    "equal": "equal",
    "no spread": "too few seeds",
    "too few seeds": "too few seeds",
}


def headlines(study: Study) -> list[str]:
    """One line for each setting: its best method, and the methods that do not differ from it."""
    lines = [
        f"{title}: {_headline(setting)}"
        for title, setting in zip(titles(study.settings), study.settings, strict=True)
    ]
    return [*lines, *_across(study)]


def titles(settings: Sequence[Setting]) -> list[str]:
    """The label of each setting, after the number by which figures call it, if they do."""
    pairs = zip(names(settings), settings, strict=True)
    return [s.label if name == s.label else f"{name} ({s.label})" for name, s in pairs]


def _headline(setting: Setting) -> str:
    leaders = setting.leaders
    if not leaders:
        return "Every run diverged."
    if setting.is_flat:
        return _flat(setting)
    best, *others = leaders
    close = [c.label for c in others if setting.difference(best, c).verdict in NEAR]
    clear = all(setting.difference(best, c).verdict == "clear" for c in others)
    rest = f" No significant difference to {listed(close)}." if close else ""
    rest = " The difference to every other method is significant." if others and clear else rest
    place = at(best) if math.isnan(best.timescale) else f"{at(best)}, {timescale(best)}"
    number = f"{best.interval(setting.metric)}{_on_test(setting, best)}"
    return f"{best.label} has the best {setting.metric_title}, {number}, {place}.{rest}"


def _flat(setting: Setting) -> str:
    best = setting.leaders[0]
    number = _mean(best, setting.metric)
    return (
        "No difference: each combination of method, lambda and learning rate has "
        f"{setting.metric_title} {number}."
    )


def listed(words: Sequence[str]) -> str:
    """Words with commas, and "and" before the last."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _on_test(setting: Setting, cell: Cell) -> str:
    """The test value of a cell; nothing where there is none."""
    found = cell.measured(setting.test_metric)
    return "" if found is None else f", {setting.test_title} {found}"


def _across(study: Study) -> Iterator[str]:
    """The best setting against each other setting, where all have the same data.

    Data losses are compared where they are values of the same loss.
    """
    leading = [setting for setting in study.settings if setting.leaders]
    same = len({setting.metric for setting in leading}) == 1
    if not same or any(key.startswith("data.") for key in study.varying):
        return
    called = dict(zip(map(id, study.settings), names(study.settings), strict=True))
    groups: dict[object, list[Setting]] = {}
    for setting in leading:
        groups.setdefault(setting.loss if setting.compares_losses else None, []).append(setting)
    for group in groups.values():
        first = group[0].ranked(setting.leaders[0] for setting in group)[0]
        [top] = [setting for setting in group if setting.leaders[0] is first]
        differences = {
            id(one): one.difference(first, one.leaders[0]) for one in group if one is not top
        }
        if len(group) > 3 and {d.verdict for d in differences.values()} == {"too few seeds"}:
            yield (
                f"{called[id(top)]} at its best is the best of {len(group)} settings, "
                "on too few seeds to compare them."
            )
            continue
        for setting in group:
            if setting is not top:
                a, b = (f"{called[id(one)]} at its best" for one in (top, setting))
                yield _in_words(differences[id(setting)], setting, a, b)
    if len(groups) > 1:
        yield (
            "Runs that minimize different losses are not ranked: their data losses mean different "
            "things. Set training.selection to a metric that all runs measure."
        )


def sentences(setting: Setting) -> list[str]:
    """Every finding of a setting."""
    leaders = setting.leaders
    if not leaders:
        return ["Every run diverged."]
    best, *others = leaders
    number = best.interval(setting.metric)
    compared = [
        *_tested(setting),
        *(_compared(setting, best, other) for other in others),
        *_coinciding(setting),
    ]
    if setting.is_flat:
        return [_flat(setting), *compared]
    word = "highest" if setting.higher_is_better else "lowest"
    highest = (
        f"{best.label} has the {word} mean {setting.metric_title}: {with_seeds(number)} {at(best)}."
    )
    return [
        _tied(setting) if setting.is_tied else highest,
        *compared,
        *(line for method in setting.methods for line in _as_good(setting, method)),
        *(line for method in setting.methods for line in _by_learning_rate(setting, method)),
        *_at_the_edge(setting),
    ]


def _tied(setting: Setting) -> str:
    """What decides where the metric does not."""
    best = setting.leaders[0]
    return (
        f"Each combination has the same {setting.metric_title}. The validation data loss "
        f"decides: the lowest is {_mean(best, DATA_LOSS)} of {best.label} {at(best)}."
    )


def _tested(setting: Setting) -> Iterator[str]:
    """The test value of each method's selected cell."""
    found = [(c.label, c.measured(setting.test_metric)) for c in setting.leaders]
    shown = [f"{method} {number}" for method, number in found if number is not None]
    if shown:
        title = setting.test_title.capitalize()
        yield f"{title} at each method's selected lambda: {', '.join(shown)}."


def at(cell: Cell) -> str:
    """The place of a cell in the grid."""
    return f"at lambda = {cell.effective_lam:.3g}, learning rate {cell.learning_rate:.3g}"


def timescale(cell: Cell) -> str:
    return f"timescale 1/(eta*lambda) = {cell.timescale:.3g} epochs"


def with_seeds(number: Interval) -> str:
    if number.half_width is None:
        return f"{number} (one seed: no interval)"
    if number.n == 2:
        return f"{number}, the range of two seeds,"
    return f"{number} (95 % interval, {number.n} seeds)"


def _compared(setting: Setting, best: Cell, other: Cell) -> str:
    """The value of a method and its difference to the best one, each at its best."""
    own = f"{other.label} reaches {other.interval(setting.metric)} {at(other)}."
    return f"{own} {_in_words(setting.difference(best, other), setting, best.label, other.label)}"


def _in_words(difference: Difference, setting: Setting, a: str, b: str) -> str:
    """The difference of `a` to `b` as a sentence."""
    number = difference.interval
    if not number.n:
        return f"{a} and {b} share no seed, so the two cannot be compared."
    size = Interval(abs(number.mean), number.half_width, number.n)
    side = "better" if (number.mean > 0) == setting.higher_is_better else "worse"
    seeds = "on the one seed" if number.n == 1 else f"over {number.n} seeds"
    if difference.verdict == "equal":
        return f"{a} and {b} are equal {seeds}."
    word = VERDICTS[difference.verdict]
    if size.is_zero:
        return f"{a} and {b} have the same mean {seeds} that both have: {word}."
    return f"{a} is {size} {side} than {b} {seeds} that both have: {word}."


def _coinciding(setting: Setting) -> Iterator[str]:
    """Methods with equal results at every lambda that both have: curves on top of each other."""
    for methods in coinciding(setting):
        labels = listed([label(method) for method in methods])
        yield (
            f"{labels} have equal {setting.metric_title} at every lambda and seed that they share: "
            "their curves coincide."
        )


def coinciding(setting: Setting) -> list[list[str]]:
    """Groups of two or more methods whose results are equal wherever both were run."""
    groups: list[list[str]] = []
    for method in setting.methods:
        for group in groups:
            if all(_equal(setting, method, other) for other in group):
                group.append(method)
                break
        else:
            groups.append([method])
    return [group for group in groups if len(group) > 1]


def _equal(setting: Setting, a: str, b: str) -> bool:
    """Whether two methods have a cell in common, and equal values in all of those."""
    places = [
        {(f"{c.effective_lam:.6g}", f"{c.learning_rate:.6g}"): c for c in setting.of(method)}
        for method in (a, b)
    ]
    found = [
        setting.difference(places[0][key], places[1][key]) for key in places[0] if key in places[1]
    ]
    return bool(found) and all(one.verdict == "equal" for one in found)


def _as_good(setting: Setting, method: str) -> Iterator[str]:
    """The lambdas of a method that do not differ significantly from its best."""
    best = setting.best(method)
    if best is None:
        yield f"{label(method)}: every run diverged."
        return
    cells = [cell for cell in setting.isolation(method) if cell.effective_lam]
    verdicts = {c.effective_lam: setting.difference(best, c).verdict for c in cells if c != best}
    near = [lam for lam, verdict in verdicts.items() if verdict in NEAR]
    if near:
        lams = listed([f"{lam:.3g}" for lam in sorted(near)])
        yield (
            f"{best.label}: the best lambda is {best.effective_lam:.3g}; "
            f"no significant difference to {lams}."
        )


def _by_learning_rate(setting: Setting, method: str) -> Iterator[str]:
    """The best lambda, as it was written, at each learning rate."""
    if not setting.has_grid(method):
        return
    found = []
    for rate in sorted({cell.learning_rate for cell in setting.of(method)}):
        there = [cell for cell in setting.of(method) if cell.learning_rate == rate]
        best = setting.best_of(there)
        if best is None:
            found.append(f"none at learning rate {rate:.3g}, where every run diverged")
            continue
        verdicts = {cell.lam: setting.difference(best, cell).verdict for cell in there}
        close = sorted(lam for lam, verdict in verdicts.items() if verdict in NEAR)
        near = [f"{lam:.3g}" for lam in close if lam != best.lam]
        beside = f" (no significant difference to {listed(near)})" if near else ""
        found.append(f"{best.lam:.3g} at learning rate {rate:.3g}{beside}")
    yield f"{label(method)}: the best lambda, as written, is {'; '.join(found)}."


def _at_the_edge(setting: Setting) -> Iterator[str]:
    """Methods whose best lambda or learning rate is the smallest or the largest of the grid."""
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
        edges += [f"{cell.label} ({', '.join(found)})"] if found else []
    if edges:
        yield (
            f"The best value is the smallest or the largest that was tried for {listed(edges)}. "
            "The optimum may lie beyond: try others."
        )


def pairs(setting: Setting) -> list[tuple[Cell, Cell, Difference]]:
    """Every two methods, each at its best: the one with the better mean first."""
    return [(a, b, setting.difference(a, b)) for a, b in itertools.combinations(setting.leaders, 2)]


def columns(setting: Setting) -> list[str]:
    measured = [setting.metric_title, setting.test_title, DIFFERENCE]
    beside = [title for _, title in _beside(setting)]
    return ["method", "lambda", "learning rate", "seeds", *measured, *beside, "verdict"]


def important(setting: Setting) -> list[str]:
    """The columns of a narrow terminal, the most important first."""
    return [*narrow(setting), DIFFERENCE, setting.test_title, "seeds"]


def narrow(setting: Setting) -> list[str]:
    """The columns that are always shown, also on a phone."""
    rate = ["learning rate"] if len(setting.learning_rates) > 1 else []
    return ["method", "lambda", *rate, setting.metric_title, "verdict"]


def _beside(setting: Setting) -> list[tuple[str, str]]:
    """Further metrics that runs measure, with their titles."""
    measured = {key for cell in setting.cells for run in cell.runs.values() for key in run.metrics}
    return [(k, title) for k, title in BESIDE.items() if k != setting.metric and k in measured]


def leaderboard(setting: Setting, limit: int | None = None) -> list[tuple[Cell, list[str]]]:
    """Cells by their mean, with the text of their row; the best of each method is always in."""
    ranked = setting.ranked(setting.cells)
    leaders = setting.leaders
    shown = [c for i, c in enumerate(ranked) if limit is None or i < limit or c in leaders]
    return [(cell, _row(setting, cell, leaders[0] if leaders else cell)) for cell in shown]


def _row(setting: Setting, cell: Cell, best: Cell) -> list[str]:
    difference = setting.difference(cell, best)
    number = cell.interval(setting.metric)
    diverged = math.isnan(number.mean)
    word = "worse" if difference.verdict == "clear" else VERDICTS[difference.verdict]
    test = cell.measured(setting.test_metric)
    return [
        cell.label,
        f"{cell.effective_lam:.3g}",
        f"{cell.learning_rate:.3g}",
        str(len(cell.runs)),
        str(number),
        "-" if test is None else str(test),
        "" if cell is best or diverged or not difference.interval.n else str(difference.interval),
        *(_mean(cell, metric) for metric, _ in _beside(setting)),
        "diverged" if diverged else BEST if cell is best and not setting.is_flat else word,
    ]


def _mean(cell: Cell, metric: str) -> str:
    known = [value for value in cell.values(metric).values() if not math.isnan(value)]
    return f"{sum(known) / len(known):.4g}" if known else "-"


def summary_metrics(study: Study) -> dict[str, float]:
    """For the parent run, by setting: each method's best mean, half width, lambda, test value."""
    found = {}
    for setting in study.settings:
        for cell in setting.leaders:
            number = cell.interval(setting.metric)
            key = f"{_key(setting.label)}{cell.label}"
            found[f"{key}.best_{setting.metric}"] = number.mean
            found[f"{key}.best_lambda"] = cell.effective_lam
            test = cell.measured(setting.test_metric)
            if test is not None:
                found[f"{key}.{setting.test_metric}"] = test.mean
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
                    yield f"{section}/{label(method)}", lams.index(cell.effective_lam), mean


def _key(label: str) -> str:
    """A setting's label in the characters that MLflow takes."""
    words = label.replace("=", " ").replace(",", "")
    kept = "".join(letter if letter.isalnum() or letter in "_-. " else "_" for letter in words)
    return f"{kept}/" if kept else ""


def failure(record: Record) -> list[str]:
    """A row of the table of missing runs: name, status, reason, id."""
    unknown = {
        "RUNNING": "running, or its process died",
        "KILLED": "stopped by Ctrl-C or SIGTERM",
    }
    why = record.tags.get("failure") or unknown.get(record.status, "see its traceback.txt")
    return [record.name, record.status, why, record.id]
