"""How the whole-way benchmark adds up seconds, and what it says of them."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.wholeway import clock, measure, page
from benchmarks.wholeway.clock import CREATING, INSIDE_FIT, LOGGING, REST, TRAINING, WAITING, Clock
from benchmarks.wholeway.measure import Profile
from benchmarks.wholeway.page import Found

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
FOUND = Found(
    added=0.003,
    all_names=0.072,
    mistake=0.5,
    first=FIRST,
    further=0.25,
    further_fit=0.375,
    long=LONG,
    counts=(11, 5, 4, 10, 7),
)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that the clock reads: `wall`, and `cpu` of the thread that asks."""
    now = SimpleNamespace(wall=100.0, cpu=50.0)
    fake = SimpleNamespace(perf_counter=lambda: now.wall, thread_time=lambda: now.cpu)
    monkeypatch.setattr(clock, "time", fake)
    return now


def spent(now: SimpleNamespace, wall: float = 0.0, cpu: float = 0.0) -> None:
    now.wall += wall
    now.cpu += cpu


def in_thread(call: Any) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_a_phase_is_without_the_phases_inside_it(now: SimpleNamespace) -> None:
    """What a watched function calls counts once: for the innermost phase, calls added up."""

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
    assert list(watch.own) == ["r", "f", "v"]  # in the order in which they begin


def test_a_phase_that_calls_itself_counts_once(now: SimpleNamespace) -> None:
    """Functions of one phase that call each other add up to the wall time, no more."""

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


def test_what_raises_is_counted_and_unwatched_afterwards(now: SimpleNamespace) -> None:
    """An exception passes, its seconds count, and the functions of before are back."""

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


def test_a_watched_function_takes_and_returns_what_it_did(now: SimpleNamespace) -> None:
    """Arguments and result go through, of a method as of a function."""

    class Model:
        def fit(self, steps: int, *, epochs: int) -> int:
            return steps * epochs

    with Clock().watching([(Model, "fit", TRAINING)]):
        assert Model().fit(3, epochs=5) == 15


def test_other_threads_count_their_processor_time(now: SimpleNamespace) -> None:
    """The outbox's CPU seconds are beside what the main thread does, but where it waits for it."""

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


def test_the_record_costs_its_phases_and_what_is_beside() -> None:
    """The main thread's phases of the record and the CPU seconds beside; waiting counts once."""
    watch = Clock()
    watch.own.update({CREATING: 1.0, WAITING: 2.0, TRAINING: 64.0, "checkpoints": 32.0})
    watch.beside, watch.waited = 4.0, 1.5
    assert watch.tracking() == 7.0


def test_what_a_further_job_takes_beside_fit() -> None:
    """From start to start less `fit`; the first job, and the last, which has no next, are out."""
    starts, fits = [10.0, 15.0, 16.0, 18.0], [0.5, 0.75, 1.5, 99.0]
    assert measure.beside_fit(starts, fits) == [0.25, 0.5]


def test_each_number_of_a_profile_is_a_median_of_its_own() -> None:
    """A phase that a repetition lacks took no time there."""
    profiles = [
        Profile({"a": 1.0, "b": 5.0}, seconds=9.0, tracking=0.1, waited=3.0),
        Profile({"a": 2.0}, seconds=7.0, tracking=0.3, waited=1.0),
        Profile({"a": 9.0, "b": 1.0}, seconds=8.0, tracking=0.2, waited=2.0),
    ]
    assert measure.median_of(profiles) == Profile(
        {"a": 2.0, "b": 1.0}, seconds=8.0, tracking=0.2, beside=0.0, waited=2.0
    )


def test_outside_is_neither_imports_nor_fit() -> None:
    """8 seconds, of which imports take 5 and what is inside `fit` 0.9375."""
    assert page.outside(FIRST) == 2.0625


def verdicts(found: Found) -> list[str]:
    rows = [line for line in page.goals(found) if line.startswith("| ")][1:]
    return [row.split(" | ")[-1].removesuffix(" |") for row in rows]


def test_goals_that_are_met() -> None:
    """All but the first command's, whose 2.0625 s are over 2 s."""
    assert verdicts(FOUND) == ["met", "met", "not met", "met", "met"]
    assert verdicts(replace(FOUND, first=replace(FIRST, seconds=7.75))) == ["met"] * 5


def test_goals_are_not_met_at_their_limits() -> None:
    """Each goal says "under": what is exactly at the limit has not met it."""
    found = replace(
        FOUND,
        added=0.05,
        mistake=2.0,
        first=replace(FIRST, seconds=7.9375),  # 2 s outside
        further=0.5,
        long=Profile({}, seconds=20.0, tracking=1.0),
    )
    assert verdicts(found) == ["not met"] * 5


def test_the_goals_show_what_was_measured_and_how_often() -> None:
    """Each row has its own number, and the repetitions in the order of `counts`."""
    rows = [line for line in page.goals(FOUND) if line.startswith("| ")][1:]
    shown = [row.split(" | ")[1] for row in rows]
    assert shown == ["3 ms", "0.5 s", "2.06 s", "0.25 s", "3.1%"]
    for row, count in zip(rows, ("(median of 11)", "(5)", "(4)", "(10)", "(7)"), strict=True):
        assert count in row


def test_the_page_says_what_is_left_out() -> None:
    """All that is inside `fit`, each part with its seconds, and a further job's."""
    text = " ".join(page.left_out(FOUND))
    assert "validating and checkpoints included: 0.94 s in the first run (" in text
    assert (
        "(tracing the step 0.500 s; tracing the validation 0.000 s; validating 0.125 s; "
        "checkpoints 0.062 s; training, and what Keras and TensorFlow do around it 0.250 s), "
        "0.38 s in a further job"
    ) in text
    assert text in " ".join(page.goals(FOUND))


def test_a_table_adds_up() -> None:
    """Phases of the record are marked, and the rest is what the others leave of the whole."""
    lines = page.table(FIRST)
    assert f"| {CREATING} * | 0.500 | 6.2% |" in lines
    assert f"| {TRAINING} | 0.250 | 3.1% |" in lines
    assert lines[-3:] == [f"| {REST} | 1.188 | 14.8% |", "| all of it | 8.000 | |", ""]


def test_groups_of_the_figure_add_up() -> None:
    """Every second of a run is in one group; a group without any is left out."""
    assert page.groups(FIRST) == {
        "importing TensorFlow and Keras": 4.0,
        "importing MLflow and the rest": 1.0,
        "creating the database": 0.5,
        "the record": 0.25,
        "tracing": 0.5,
        "training and validating": 0.4375,
        REST: 1.3125,
    }
    assert list(page.groups(LONG)) == ["the record", "training and validating", REST]


def test_what_is_watched_is_there() -> None:
    """Each function that the clock looks for exists, and the parts of `fit` are watched."""
    watched = clock.phases()
    assert all(callable(getattr(owner, name)) for owner, name, _ in watched)
    assert set(INSIDE_FIT) <= {phase for _, _, phase in watched}
