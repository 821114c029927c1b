"""The statistics of paired turns, and the order in which the variants take them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.kit import timing
from benchmarks.kit.timing import Timings, Turn

# One round in three is disturbed, for all variants.
TIMINGS = Timings(
    {"none": [10.0, 30.0, 10.0], "l2": [14.0, 34.0, 15.0], "half": [12.0, 31.0, 12.0]}
)


class Laboratory:
    """Variants whose steps take a known time on a fake clock.

    Attributes:
        events: ("build", name, 0) and ("turn", name, steps), in their order.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.events: list[tuple[str, str, int]] = []
        monkeypatch.setattr("benchmarks.kit.timing.time.perf_counter", lambda: self.now)

    def variant(self, name: str, seconds: float) -> Callable[[], Turn]:
        def build() -> Turn:
            self.events.append(("build", name, 0))
            return turn

        def turn(steps: int) -> None:
            self.events.append(("turn", name, steps))
            self.now += steps * seconds

        return build

    def turns(self) -> list[tuple[str, int]]:
        return [(name, steps) for kind, name, steps in self.events if kind == "turn"]


@pytest.fixture
def laboratory(monkeypatch: pytest.MonkeyPatch) -> Laboratory:
    return Laboratory(monkeypatch)


def test_added_time_is_paired_by_round() -> None:
    """It is the median of the differences within a round, which a disturbed round leaves alone."""
    assert TIMINGS.differences("half") == [2.0, 1.0, 2.0]
    assert TIMINGS.added("half") == 2.0
    assert TIMINGS.added("half", over="l2") == -3.0  # of -2, -3, -3
    assert TIMINGS.median("none") == 10.0
    assert TIMINGS.baseline == "none"


def test_iqr_is_that_of_the_differences() -> None:
    """The quartiles of 2, 1, 2 are 1.5 and 2; a single round has no spread."""
    assert TIMINGS.iqr("half") == 0.5
    assert TIMINGS.iqr("none") == 0.0
    assert TIMINGS.rounds([0]).iqr("half") == 0.0


def test_rounds_are_drawn_for_all_variants_alike() -> None:
    """A resample keeps the pairs, also of a round that it draws twice."""
    assert TIMINGS.rounds([1, 1, 2]).differences("half") == [1.0, 1.0, 2.0]


def test_an_interval_holds_95_percent_of_the_resamples() -> None:
    """The mean of resamples of one 1 in 100 rounds is Poisson: 0 in 37 %, over 0.03 in 2 %."""
    timings = Timings({"none": [0.0] * 100, "one": [1.0, *[0.0] * 99]})
    low, high = timings.interval(lambda t: sum(t.differences("one")) / 100)
    assert low == 0.0
    assert high == pytest.approx(0.03)
    assert TIMINGS.interval(lambda t: 7.0) == (7.0, 7.0)


def test_a_round_times_every_variant_and_the_control(laboratory: Laboratory) -> None:
    """Seconds are those of a step; the control comes after the baseline."""
    variants = {"none": laboratory.variant("none", 0.5), "l2": laboratory.variant("l2", 0.75)}
    timings = timing.paired(variants, 3, builds=1, warm_up=0)
    assert timings == Timings({"none": [0.5] * 3, "none, again": [0.5] * 3, "l2": [0.75] * 3})
    assert list(timings.seconds) == ["none", "none, again", "l2"]


def test_turns_are_in_random_order(laboratory: Laboratory) -> None:
    """Within a round each variant has one turn; the rounds differ in their order."""
    variants = {name: laboratory.variant(name, 1.0) for name in "abcd"}
    timing.paired(variants, 8, builds=1, warm_up=0)
    names = [name for name, _ in laboratory.turns()]
    rounds = [tuple(names[start : start + 5]) for start in range(0, 40, 5)]
    assert all(sorted(one) == ["a", "a", "b", "c", "d"] for one in rounds)
    assert len(set(rounds)) > 1


def test_all_variants_are_built_again(laboratory: Laboratory) -> None:
    """Two builds share five rounds as three and two, and no variant is built in between."""
    variants = {"none": laboratory.variant("none", 1.0), "l2": laboratory.variant("l2", 2.0)}
    timings = timing.paired(variants, 5, builds=2, warm_up=0)
    kinds = "".join("b" if event[0] == "build" else "t" for event in laboratory.events)
    assert kinds == "bbb" + "t" * 9 + "bbb" + "t" * 6
    assert timings.seconds["l2"] == [2.0] * 5


def test_the_baseline_determines_the_number_of_steps(laboratory: Laboratory) -> None:
    """At 4 ms a step, 50 ms are 13 steps for every variant; what warms up does not count."""
    variants = {"none": laboratory.variant("none", 0.004), "l2": laboratory.variant("l2", 1.0)}
    timings = timing.paired(variants, 2, builds=1, warm_up=3, least=0.05)
    steps = [steps for _, steps in laboratory.turns()]
    assert steps == [3] * 4 + [13] * 3 + [13] * 6  # first steps and calibration, warm-up, rounds
    assert len(timings.seconds["l2"]) == 2
    assert timings.seconds["l2"] == pytest.approx([1.0, 1.0])


def test_calls_take_turns() -> None:
    """Each turn is one call; the baseline is called for the control, too."""
    calls: list[str] = []
    functions = {"one": lambda: calls.append("one"), "two": lambda: calls.append("two")}
    timings = timing.paired_calls(functions, 4)
    assert list(timings.seconds) == ["one", "one, again", "two"]
    assert (calls.count("one"), calls.count("two")) == (2 * 6 + 1, 6)  # with two to warm up


def test_timed_returns_seconds_and_value(laboratory: Laboratory) -> None:
    """A call of 2 s that returns its turn."""
    turn = laboratory.variant("a", 2.0)()
    assert timing.timed(lambda: (turn(1), 7)[1]) == (2.0, 7)
