"""How the benchmark of a run adds up seconds, and its goals and tables."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from benchmarks import whole_way
from benchmarks.cases import phases
from benchmarks.cases.phases import (
    CREATING,
    INSIDE_FIT,
    LOGGING,
    REST,
    TRAINING,
    WAITING,
    Clock,
)
from benchmarks.kit.result import Goal
from benchmarks.whole_way import Measured, Profile, Repeats

FIRST = Profile(
    phases={
        "import TensorFlow and Keras": 4.0,
        "import MLflow": 1.0,
        REST: 0.25,
        CREATING: 0.5,
        "building the model": 0.125,
        TRAINING: 0.25,
        "tracing the step": 0.5,
        "validating": 0.125,
        "checkpoints": 0.0625,
        WAITING: 0.25,
    },
    seconds=8.0,
    tracking=0.75,
)
LONG = Profile({TRAINING: 1.5, WAITING: 0.0625}, seconds=2.0, tracking=0.0625)
MEASURED = Measured(
    imported=0.003,
    all_names=0.072,
    mistake=0.5,
    first=FIRST,
    further=0.25,
    further_fit=0.375,
    long=LONG,
    repeats=Repeats(11, 5, 4, 10, 7),
)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time of the clock: `wall`, and `cpu` of the current thread."""
    now = SimpleNamespace(wall=100.0, cpu=50.0)
    fake = SimpleNamespace(perf_counter=lambda: now.wall, thread_time=lambda: now.cpu)
    monkeypatch.setattr(phases, "time", fake)
    return now


def spent(now: SimpleNamespace, wall: float = 0.0, cpu: float = 0.0) -> None:
    now.wall += wall
    now.cpu += cpu


def in_thread(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_a_phase_is_without_the_phases_inside_it(now: SimpleNamespace) -> None:
    """A second counts for the innermost phase only, and the calls of a phase add up."""

    def validate() -> None:
        spent(now, wall=2.0)

    def fit() -> None:
        spent(now, wall=1.0)
        code.validate()
        code.validate()
        spent(now, wall=8.0)

    def run() -> None:
        spent(now, wall=16.0)
        code.fit()

    code = SimpleNamespace(validate=validate, fit=fit, run=run)
    watch = Clock()
    with watch.watching([(code, "validate", "v"), (code, "fit", "f"), (code, "run", "r")]):
        code.run()
    assert watch.own == {"r": 16.0, "f": 9.0, "v": 4.0}
    assert list(watch.own) == ["r", "f", "v"]  # the order in which they begin


def test_a_phase_that_calls_itself_counts_once(now: SimpleNamespace) -> None:
    """Functions of one phase that call each other add up to the wall time."""

    def inner() -> None:
        spent(now, wall=2.0)

    def outer() -> None:
        spent(now, wall=1.0)
        code.inner()

    code = SimpleNamespace(inner=inner, outer=outer)
    watch = Clock()
    with watch.watching([(code, "inner", LOGGING), (code, "outer", LOGGING)]):
        code.outer()
    assert watch.own == {LOGGING: 3.0}


def test_an_exception_passes(now: SimpleNamespace) -> None:
    """Its seconds count, and afterwards the functions are the original ones."""

    def fail() -> None:
        spent(now, wall=4.0)
        raise ArithmeticError("nan")

    def run() -> None:
        try:
            code.fail()
        finally:
            spent(now, wall=1.0)

    code = SimpleNamespace(fail=fail, run=run)
    watch = Clock()
    with (
        pytest.raises(ArithmeticError, match="nan"),
        watch.watching([(code, "fail", "f"), (code, "run", "r")]),
    ):
        code.run()
    assert watch.own == {"r": 1.0, "f": 4.0}
    assert (code.fail, code.run) == (fail, run)


def test_arguments_and_results_pass(now: SimpleNamespace) -> None:
    """A watched method takes and returns the same as before."""

    class Model:
        def fit(self, steps: int, *, epochs: int) -> int:
            return steps * epochs

    with Clock().watching([(Model, "fit", TRAINING)]):
        assert Model().fit(3, epochs=5) == 15


def test_other_threads_count_their_processor_time(now: SimpleNamespace) -> None:
    """CPU seconds of the write queue count beside training, but not while the run waits for it."""

    def write() -> None:
        spent(now, wall=64.0, cpu=2.0)

    def fit() -> None:
        in_thread(code.write)

    def end() -> None:
        in_thread(code.write)
        in_thread(code.write)

    code = SimpleNamespace(write=write, fit=fit, end=end)
    watch = Clock()
    watched = [(code, "write", "writing"), (code, "fit", TRAINING), (code, "end", WAITING)]
    with watch.watching(watched):
        code.fit()
        code.end()
    assert (watch.beside, watch.waited) == (2.0, 4.0)
    assert watch.own == {TRAINING: 64.0, WAITING: 128.0}  # the main thread's, not "writing"


def test_tracking_has_its_phases_and_the_time_beside() -> None:
    """The phases of the main thread and the CPU seconds beside; waiting counts once."""
    watch = Clock()
    watch.own.update({CREATING: 1.0, WAITING: 2.0, TRAINING: 64.0, "checkpoints": 32.0})
    watch.beside, watch.waited = 4.0, 1.5
    assert watch.tracking() == 7.0


def test_a_further_job_outside_fit() -> None:
    """From start to start less `fit`; the first job and the last are left out."""
    starts, fits = [10.0, 15.0, 16.0, 18.0], [0.5, 0.75, 1.5, 99.0]
    assert whole_way.outside_fit(starts, fits) == [0.25, 0.5]


def test_each_number_of_a_profile_is_a_median() -> None:
    """An absent phase took no time."""
    profiles = [
        Profile({"a": 1.0, "b": 5.0}, seconds=9.0, tracking=0.1, waited=3.0),
        Profile({"a": 2.0}, seconds=7.0, tracking=0.3, waited=1.0),
        Profile({"a": 9.0, "b": 1.0}, seconds=8.0, tracking=0.2, waited=2.0),
    ]
    assert whole_way.median_of(profiles) == Profile(
        {"a": 2.0, "b": 1.0}, seconds=8.0, tracking=0.2, beside=0.0, waited=2.0
    )


def test_outside_is_neither_imports_nor_fit() -> None:
    """8 seconds, of which imports take 5 and `fit` 0.9375."""
    assert (FIRST.outside, FIRST.inside_fit) == (2.0625, 0.9375)


def verdicts(measured: Measured) -> list[str]:
    return [goal.verdict for goal in whole_way.goals(measured)]


def test_goals_that_are_met() -> None:
    """All but that of the first run, whose 2.0625 s are over 2 s."""
    assert verdicts(MEASURED) == ["met", "met", "not met", "met", "met"]
    assert verdicts(replace(MEASURED, first=replace(FIRST, seconds=7.75))) == ["met"] * 5


def test_goals_are_not_met_at_their_limits() -> None:
    """A number must stay under its limit."""
    measured = replace(
        MEASURED,
        imported=0.05,
        mistake=2.0,
        first=replace(FIRST, seconds=7.9375),  # 2 s outside
        further=0.5,
        long=Profile({}, seconds=20.0, tracking=1.0),
    )
    assert verdicts(measured) == ["not met"] * 5


def test_goals_have_their_numbers_and_repeats() -> None:
    """Each goal has its own measurement, unit and count."""

    def shown(goal: Goal) -> tuple[str, str]:
        return f"{goal.measured:{goal.format}}{goal.unit}", goal.case

    assert list(map(shown, whole_way.goals(MEASURED))) == [
        ("3ms", "median of 11"),
        ("0.5s", "median of 5"),
        ("2.06s", "median of 4"),
        ("0.25s", "median of 10"),
        ("3.1%", "median of 7"),
    ]


def test_the_overview() -> None:
    """Both runs, outside and inside `fit`, in seconds."""
    overview, _, _, tracking = whole_way.sections(MEASURED)
    assert overview.rows == {
        "`import l2keras`": [0.003],
        "`from l2keras import *`": [0.072],
        "mistake in the config": [0.5],
        "first run, outside imports and `fit`": [2.0625],
        "first run, inside `fit`": [0.9375],
        "further job, outside `fit`": [0.25],
        "further job, inside `fit`": [0.375],
    }
    assert tracking.rows["tracking"] == [62.5, 0.03125]
    assert tracking.rows["tracking without the model's file"] == [62.5, 0.03125]


def test_the_phases_of_a_table_add_up() -> None:
    """A star marks tracking; the rest is the whole less the other phases."""
    rows = whole_way.profile_section("title", FIRST).rows
    assert rows[f"{CREATING} *"] == [0.5, 0.0625]
    assert rows[TRAINING] == [0.25, 0.03125]
    assert list(rows.items())[-1] == (REST, [1.1875, 0.1484375])
    assert sum(seconds or 0.0 for seconds, _ in rows.values()) == 8.0


def test_the_watched_functions_exist() -> None:
    """The clock watches the parts of `fit`, and each of its functions is there."""
    watched = phases.phases()
    assert all(callable(getattr(owner, name)) for owner, name, _ in watched)
    assert set(INSIDE_FIT) <= {phase for _, _, phase in watched}
