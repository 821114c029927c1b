"""The result of a benchmark: tables, goals and their origin, as typed values and as JSON."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.kit.timing import Timings

RESULTS = Path(__file__).parents[1] / "results"
Rows = dict[str, list[float | None]]
MET, NOT_MET, UNCLEAR = "met", "not met", "too close to tell"


@dataclass(frozen=True)
class Section:
    """A table.

    Attributes:
        title: The case that the rows belong to.
        columns: The format of each number of a row, by heading.
        rows: The numbers of each row, in the columns' units; None is an empty cell.
        text: What the numbers depend on, in a sentence or two.
        rounds: Seconds of every variant in every round. The oldest results have none.
    """

    title: str
    columns: dict[str, str]
    rows: Rows
    text: str = ""
    rounds: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    """A goal and its verdict: `met`, `not met` or `too close to tell`.

    Attributes:
        limit: What the measured number must stay under, or exceed if `over`.
        format: The format of both numbers.
    """

    text: str
    case: str
    measured: float
    limit: float
    verdict: str
    format: str = ".2f"
    unit: str = ""
    over: bool = False


@dataclass(frozen=True)
class Origin:
    """The command that measured, the machine, and its load average when the command began."""

    command: str
    machine: str
    load: float | None = None


@dataclass(frozen=True)
class Result:
    """All that a page shows.

    Attributes:
        name: The stem of its files.
        figure: The column that a figure draws as bars, if any, and the column of their spreads.
    """

    name: str
    title: str
    origin: Origin
    sections: list[Section]
    goals: list[Goal] = field(default_factory=list)
    figure: list[str] = field(default_factory=list)
    text: str = ""


def goal(
    text: str,
    case: str,
    measured: float,
    limit: float,
    format: str = ".2f",
    unit: str = "",
    *,
    over: bool = False,
    interval: tuple[float, float] | None = None,
) -> Goal:
    """Returns a goal with its verdict; nan meets none.

    Args:
        interval: The 95 % interval of `measured - limit`, if known. The verdict is
            `too close to tell` if the interval includes zero.
    """
    if interval and interval[0] <= 0 <= interval[1]:
        verdict = UNCLEAR
    else:
        verdict = MET if (measured > limit if over else measured < limit) else NOT_MET
    return Goal(text, case, measured, limit, verdict, format, unit, over)


def section_of(title: str, timings: Timings, text: str = "") -> Section:
    """Returns the table of paired timings, in milliseconds."""
    columns = dict.fromkeys(("median, ms", "added, ms", "IQR, ms", "ratio"), ".2f")
    base = timings.median(timings.baseline)
    rows: Rows = {}
    for name in timings.seconds:
        median, own = timings.median(name), name == timings.baseline
        paired = [None, None] if own else [1e3 * timings.added(name), 1e3 * timings.iqr(name)]
        rows[name] = [1e3 * median, *paired, median / base]
    return Section(title, columns, rows, text, rounds_of(timings))


def rounds_of(timings: Timings) -> dict[str, list[float]]:
    """Returns the seconds of every round, to the microsecond."""
    return {name: [round(s, 6) for s in seconds] for name, seconds in timings.seconds.items()}


def to_json(result: Result) -> str:
    """Returns JSON with one line for each list of numbers."""
    text = json.dumps(asdict(result), indent=1)
    return re.sub(r"\[[^\[\]{}\"]*\]", lambda found: " ".join(found[0].split()), text) + "\n"


def from_json(text: str) -> Result:
    """Returns the result that `to_json` has written."""
    data = json.loads(text)
    types = {"origin": Origin, "sections": Section, "goals": Goal}
    for key, type_ in types.items():
        one = data[key]
        data[key] = [type_(**item) for item in one] if isinstance(one, list) else type_(**one)
    return Result(**data)
