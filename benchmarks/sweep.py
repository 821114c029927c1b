"""Measures many lambdas at once against fits one by one: `python -m benchmarks.sweep`.

A plain `model.fit(x, y)` of one member, fits from a `tf.data` pipeline and `l2keras.sweep` of all
members take turns in one process; each turn traces and compiles. The weights are then compared
after five epochs. KERAS_BACKEND chooses the backend. The result is
benchmarks/results/sweep_<backend>.json with its page and figure.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from benchmarks.cases import products
from benchmarks.cases.sweeps import CASES, NUDGE, Case, Trainings, distances, sensitivity
from benchmarks.kit import command
from benchmarks.kit.result import Goal, Result, Rows, Section, goal, rounds_of
from benchmarks.kit.timing import Timings, again, paired_calls

BACKEND = keras.backend.backend()
PLAIN, FIT, SWEPT = "one plain `fit(x, y)`", "one fit from `tf.data`", "`sweep` of all members"
LIMITS = {"float32": 1e-5, "float64": 1e-10}
COLUMNS = {"seconds": ".2f", "plain fits": ".2f"}
SUMMARY = {
    "members": ".0f",
    "speed-up over the loop": ".1f",
    "time in plain fits": ".2f",
    "per member, ms": ".0f",
    "matrix products, GFLOP": ".0f",
    "their speed, GFLOP/s": ".0f",
}
APART = f"float32, fit and fit from weights times 1 + {NUDGE:.0e}"


@dataclass(frozen=True)
class Measured:
    """The measurements of a case.

    Attributes:
        timings: Seconds of each training; those of the pipeline are of one fit.
        compiling: Seconds of a sweep's tracing and compiling, a part of its seconds.
        notes: The notes of the sweep.
        products: Seconds of the matrix products alone, where they bound a goal.
        apart: Largest difference of a weight of each fitted member, by what is compared.
    """

    case: Case
    timings: Timings
    compiling: float
    notes: str
    products: float | None
    apart: dict[str, list[float]]

    @property
    def plain(self) -> float:
        """Seconds of one plain fit."""
        return self.timings.median(PLAIN)

    @property
    def loop(self) -> float:
        """Seconds of all members one by one, by the faster kind of fit."""
        return self.case.members * min(self.plain, self.timings.median(FIT))

    @property
    def swept(self) -> float:
        """Seconds of the sweep."""
        return self.timings.median(SWEPT)

    @property
    def throughput(self) -> float:
        """Throughput of the sweep over that of the loop."""
        return self.loop / self.swept


def measure(case: Case, rounds: int) -> Measured:
    """Measures a case; its first fit imports and initializes, and does not count."""
    trainings = Trainings(case)
    trainings.plain()
    sides: dict[str, Callable[[], object]]
    sides = {PLAIN: trainings.plain, FIT: trainings.looped, SWEPT: trainings.swept}
    timings = paired_calls(sides, rounds, warm_up=0)
    one = [seconds / len(trainings.fitted) for seconds in timings.seconds[FIT]]
    model, least = case.build(), None
    if case.one_fit and products.kernels_of(model):
        least = case.steps * products.seconds(model, case.members, case.batch_size)
    apart = {f"{dtype}, sweep and fit": distances(case, dtype) for dtype in LIMITS}
    if max(apart["float32, sweep and fit"]) > LIMITS["float32"]:
        apart[APART] = sensitivity(case)
    return Measured(
        case,
        Timings({**timings.seconds, FIT: one}),
        statistics.median(trainings.compiling),
        trainings.notes,
        least,
        apart,
    )


def section(measured: Measured, rounds: int) -> Section:
    """Returns the table of a case."""
    case, timings = measured.case, measured.timings
    seconds = {name: timings.median(name) for name in (PLAIN, again(PLAIN), FIT)}
    seconds |= {"fastest loop of fits": measured.loop, SWEPT: measured.swept}
    seconds["tracing and compiling in it"] = measured.compiling
    if measured.products:
        seconds["matrix products in it"] = measured.products
    validated = ", validated after each epoch" if case.validated else ""
    text = (
        f"{case.examples} examples, batches of {case.batch_size}, {case.epochs} epochs, SGD with "
        f"momentum{validated}; {rounds} rounds. {measured.notes}."
    )
    rows: Rows = {name: [value, value / measured.plain] for name, value in seconds.items()}
    return Section(case.title, COLUMNS, rows, text, rounds_of(timings))


def summary(measured: Sequence[Measured]) -> Section:
    """Returns the table of all cases."""
    rows: Rows = {}
    for one in measured:
        case = one.case
        work = speed = None
        if one.products:
            kernels = products.kernels_of(case.build())
            work = case.steps * products.operations(kernels, case.members, case.batch_size) / 1e9
            speed = work / one.products
        each = 1e3 * one.swept / case.members
        fits = one.swept / one.plain
        rows[case.title] = [case.members, one.throughput, fits, each, work, speed]
    return Section("Summary", SUMMARY, rows)


def differences(measured: Sequence[Measured]) -> Section:
    """Returns the table of the differences of weights."""
    width = max(case.looped for case in CASES.values())
    rows: Rows = {
        f"{one.case.title}: {what}": [*values, *[None] * (width - len(values))]
        for one in measured
        for what, values in one.apart.items()
    }
    columns = {f"fit {number}": ".0e" for number in range(1, width + 1)}
    return Section("Largest difference of a weight after 5 epochs", columns, rows)


def goals(measured: Sequence[Measured]) -> Iterator[Goal]:
    """Yields the verdicts of all cases."""
    for one in measured:
        case, ratio, fits = one.case, one.throughput, one.swept / one.plain
        text = "speed-up over the fastest loop of fits"
        yield goal(text, case.title, ratio, case.throughput, ".1f", over=True)
        if case.one_fit:
            yield goal("time in plain fits", case.title, fits, 1.0)
        for dtype, limit in LIMITS.items():
            apart = max(one.apart[f"{dtype}, sweep and fit"])
            text = f"largest difference of a weight, {dtype}"
            yield goal(text, case.title, apart, limit, ".0e")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, judges and publishes."""
    parser = command.parser(__doc__, rounds=3)
    parser.add_argument(
        "--case", nargs="+", choices=CASES, default=list(CASES), metavar="CASE",
        help="default: all. Any of: " + ", ".join(CASES),
    )  # fmt: skip
    asked = parser.parse_args(arguments)
    origin = command.origin("sweep", arguments)
    measured, sections = [], []
    for name in asked.case:
        measured.append(measure(CASES[name], asked.rounds))
        sections.append(command.shown(section(measured[-1], asked.rounds)))
    result = Result(
        f"sweep_{BACKEND}",
        f"Many lambdas at once, on {BACKEND}",
        origin,
        [summary(measured), *sections, differences(measured)],
        list(goals(measured)),
        ["plain fits"],
    )
    command.publish(result, asked.results, complete=asked.case == list(CASES))


if __name__ == "__main__":
    main()
