"""The goals, fixed before anything was measured, and whether the measurements meet them.

The verdict "too close to tell" came later, when two models without decay turned out to differ by
more than some of the limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Verdict:
    """A goal on a model: what was measured, and the most that it may be.

    `resolution` is what two measurements of the same thing, `none`, differ by.
    """

    goal: str
    model: str
    measured: float
    limit: float
    unit: str
    resolution: float

    @property
    def told(self) -> str:
        """Whether it is met, where that can be told."""
        if abs(self.measured - self.limit) <= self.resolution:
            return "too close to tell"
        return "met" if self.measured < self.limit else "**not met**"


@dataclass(frozen=True)
class Goal:
    """Of all models, of the large one (True) or of the others (False).

    `sides` gives what was measured and its limit, in seconds.
    """

    text: str
    sides: Callable[[Timings], tuple[float, float]]
    large: bool | None = None

    def concerns(self, model: str) -> bool:
        return self.large in (None, model == LARGE)


def _at_most(share: float, name: str, of: str) -> Callable[[Timings], tuple[float, float]]:
    return lambda timings: (timings.added(name), share * timings.added(of))


def _no_slower(timings: Timings) -> tuple[float, float]:
    step = timings.median(NONE)
    return step + timings.added(DECOUPLED), step


def _within_noise(timings: Timings) -> tuple[float, float]:
    return timings.added(HALF, over=BUILTIN), resolution(timings)


def resolution(timings: Timings) -> float:
    """What two models without decay differ by, in seconds of a step."""
    return abs(timings.added(AGAIN))


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
    Goal(f"{HALF} adds no more than the built-in, within the noise", _within_noise),
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
                value, limit = goal.sides(timings)
                apart = 0.0 if goal.sides is _within_noise else 1e3 * resolution(timings)
                yield Verdict(goal.text, model, 1e3 * value, 1e3 * limit, "ms", apart)


def verdicts_on_memory(added: Mapping[str, Memory], largest_kernel: int) -> Iterator[Verdict]:
    """No added peak beyond one temporary of the largest kernel."""
    apart = abs(added[AGAIN].peak) / 1e6 if AGAIN in added else 0.0
    for name in OURS:
        if name in added:
            text = f"{name}: no peak memory beyond one temporary of the largest kernel"
            yield Verdict(text, LARGE, added[name].peak / 1e6, largest_kernel / 1e6, "MB", apart)
