"""The goals, fixed before anything was measured, and whether the measurements meet them.

The verdict "too close to tell" came later, when two models without decay turned out to differ by
more than some of the limits: it is given where zero lies in the interval that a bootstrap over the
rounds gives for what was measured minus its limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

from benchmarks.stepcost.memory import Memory
from benchmarks.stepcost.models import LARGE
from benchmarks.stepcost.timing import Timings
from benchmarks.stepcost.variants import (
    AGAIN,
    BUILTIN,
    COUPLED,
    DECOUPLED,
    HALF,
    INDEPENDENT,
    NONE,
    OPTIMIZER,
)

OURS = (HALF, DECOUPLED, COUPLED, INDEPENDENT)


RESAMPLES, OUTSIDE = 500, 0.025  # of the resamples, at either end of the interval

Sides = Callable[[Timings], tuple[float, float]]  # what was measured and its limit, in seconds


@dataclass(frozen=True)
class Verdict:
    """A goal on a model: what was measured, and the most that it may be.

    `interval` is that of `measured - limit`.
    """

    goal: str
    model: str
    measured: float
    limit: float
    unit: str
    interval: tuple[float, float]

    @property
    def told(self) -> str:
        """Whether it is met, where that can be told."""
        low, high = self.interval
        if low <= 0 <= high:
            return "too close to tell"
        return "met" if self.measured < self.limit else "**not met**"


@dataclass(frozen=True)
class Goal:
    """Of all models, of the large one (True) or of the others (False)."""

    text: str
    sides: Sides
    large: bool | None = None

    def concerns(self, model: str) -> bool:
        return self.large in (None, model == LARGE)


def _at_most(share: float, name: str, of: str) -> Sides:
    return lambda timings: (timings.added(name), share * timings.added(of))


def _no_slower(timings: Timings) -> tuple[float, float]:
    step = timings.median(NONE)
    return step + timings.added(DECOUPLED), step


def _no_more(timings: Timings) -> tuple[float, float]:
    return timings.added(HALF, over=BUILTIN), 0.0


def _of_the_step(timings: Timings) -> tuple[float, float]:
    return timings.added(DECOUPLED), 0.05 * timings.median(NONE)


GRAPH = (
    Goal(f"{HALF} adds at most 0.5 of the built-in's", _at_most(0.5, HALF, BUILTIN), large=True),
    Goal(f"{HALF} adds at most 0.8 of the built-in's", _at_most(0.8, HALF, BUILTIN), large=False),
    Goal(
        f"{DECOUPLED}, adds at most 0.3 of the built-in's",
        _at_most(0.3, DECOUPLED, BUILTIN),
        large=True,
    ),
    Goal(
        f"{DECOUPLED}, adds at most half of the optimizer's weight_decay",
        _at_most(0.5, DECOUPLED, OPTIMIZER),
    ),
    Goal(f"{COUPLED}, adds at most 0.5 of the built-in's", _at_most(0.5, COUPLED, BUILTIN)),
    Goal(f"a step with {DECOUPLED}, is no slower than one without", _no_slower, large=True),
)
ELSEWHERE = (
    Goal(f"{HALF} adds no more than the built-in", _no_more),
    Goal(f"{DECOUPLED}, adds at most 5 % of the step", _of_the_step),
)


def goals_of(backend: str, mode: str) -> tuple[Goal, ...]:
    """Eager TensorFlow has no goals of time."""
    if backend != "tensorflow" or mode == "jit":
        return ELSEWHERE
    return GRAPH if mode == "graph" else ()


def verdicts_on_time(goals: tuple[Goal, ...], measured: Mapping[str, Timings]) -> Iterator[Verdict]:
    """Of every goal on every model that it concerns."""
    for goal in goals:
        for model, timings in measured.items():
            if goal.concerns(model):
                value, limit = (1e3 * side for side in goal.sides(timings))
                interval = _interval(goal.sides, timings)
                yield Verdict(goal.text, model, value, limit, "ms", interval)


def _interval(sides: Sides, timings: Timings) -> tuple[float, float]:
    """Of `measured - limit`, in milliseconds: rounds are drawn anew, with all variants in them."""
    random, rounds = Random(0), len(timings.seconds[NONE])
    found = []
    for _ in range(RESAMPLES):
        measured, limit = sides(timings.of_rounds(random.choices(range(rounds), k=rounds)))
        found.append(1e3 * (measured - limit))
    found.sort()
    cut = int(OUTSIDE * RESAMPLES)
    return found[cut], found[-1 - cut]


def verdicts_on_memory(added: Mapping[str, Memory], largest_kernel: int) -> Iterator[Verdict]:
    """No added peak beyond one temporary of the largest kernel."""
    apart = abs(added[AGAIN].peak) / 1e6 if AGAIN in added else 0.0  # two that are the same
    limit = largest_kernel / 1e6
    for name in OURS:
        if name in added:
            text = f"{name}: no peak memory beyond one temporary of the largest kernel"
            peak = added[name].peak / 1e6
            interval = peak - limit - apart, peak - limit + apart
            yield Verdict(text, LARGE, peak, limit, "MB", interval)
