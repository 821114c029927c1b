"""Paired turns: variants that are timed in the same rounds, and the statistics of their seconds.

A round times every variant once, in a new random order, so that a drift of the machine hits all
variants alike. The first variant is the baseline; the kit adds a second build of it as the control,
whose difference to the baseline is what the measurement cannot resolve. All variants are built
anew during a run, because two builds of the same variant may differ in speed.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

Turn = Callable[[int], object]  # takes this number of steps and returns when they are done
Build = Callable[[], Turn]

RESAMPLES, OUTSIDE = 500, 0.025  # of the bootstrap; the share beyond either end of its interval


@dataclass(frozen=True)
class Timings:
    """Seconds of a step by variant, the baseline first; each index is one round."""

    seconds: Mapping[str, Sequence[float]]

    @property
    def baseline(self) -> str:
        """The variant that the others are compared with."""
        return next(iter(self.seconds))

    def median(self, name: str) -> float:
        """Returns the median seconds of a step."""
        return statistics.median(self.seconds[name])

    def differences(self, name: str, over: str | None = None) -> list[float]:
        """Returns the seconds of `name` minus those of `over` (the baseline), round by round."""
        pairs = zip(self.seconds[name], self.seconds[over or self.baseline], strict=True)
        return [one - other for one, other in pairs]

    def added(self, name: str, over: str | None = None) -> float:
        """Returns the median of the differences."""
        return statistics.median(self.differences(name, over))

    def iqr(self, name: str, over: str | None = None) -> float:
        """Returns the interquartile range of the differences; 0 if there is one round."""
        differences = self.differences(name, over)
        if len(differences) < 2:
            return 0.0
        lower, _, upper = statistics.quantiles(differences, method="inclusive")
        return upper - lower

    def rounds(self, numbers: Sequence[int]) -> Timings:
        """Returns the timings of these rounds, which may repeat."""
        return Timings({name: [s[n] for n in numbers] for name, s in self.seconds.items()})

    def interval(self, statistic: Callable[[Timings], float]) -> tuple[float, float]:
        """Returns the 95 % interval of a statistic, by a bootstrap over the rounds."""
        random, rounds = Random(0), len(self.seconds[self.baseline])
        values = sorted(
            statistic(self.rounds(random.choices(range(rounds), k=rounds)))
            for _ in range(RESAMPLES)
        )
        cut = int(OUTSIDE * RESAMPLES)
        return values[cut], values[-1 - cut]


def again(name: str) -> str:
    """Returns the name of the control of a baseline."""
    return f"{name}, again"


def paired(
    variants: Mapping[str, Build],
    rounds: int,
    *,
    builds: int = 2,
    warm_up: int = 3,
    least: float = 0.05,
) -> Timings:
    """Times variants in turns.

    Args:
        variants: How to build the turn of each variant; the first one is the baseline.
        rounds: Number of rounds, divided among the builds.
        builds: How often every variant is built.
        warm_up: Steps of each variant before the first round. Unless it is 0, a turn of each
            variant follows that does not count.
        least: Seconds that the steps of one turn take at least; the baseline determines how many
            steps that are.

    Returns:
        Seconds of a step for each variant and for the control.
    """
    baseline = next(iter(variants))
    control = {baseline: variants[baseline], again(baseline): variants[baseline]}
    variants = {**control, **variants}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    builds, random = min(builds, rounds), Random(0)
    for number in range(builds):
        turns = {name: variants[name]() for name in _shuffled(variants, random)}
        steps = _warmed_up(turns, turns[baseline], warm_up, least)
        for _ in range(rounds // builds + (number < rounds % builds)):
            for name in _shuffled(turns, random):
                seconds[name].append(timed(partial(turns[name], steps))[0] / steps)
    return Timings(seconds)


def paired_calls(
    functions: Mapping[str, Callable[[], object]], rounds: int, *, warm_up: int = 1
) -> Timings:
    """Times functions in turns of one call; the first function is the baseline."""
    builds = {name: partial(once, function) for name, function in functions.items()}
    return paired(builds, rounds, builds=1, warm_up=warm_up, least=0.0)


def once(function: Callable[[], object]) -> Turn:
    """Returns the turn whose step is one call of a function."""

    def turn(steps: int) -> None:
        for _ in range(steps):
            function()

    return turn


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the seconds of one call and its value."""
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


def _shuffled(names: Iterable[str], random: Random) -> list[str]:
    return random.sample(list(names), len(list(names)))


def _warmed_up(turns: Mapping[str, Turn], baseline: Turn, steps: int, least: float) -> int:
    """Takes the first steps and a first turn; returns the number of steps in a turn."""
    if not steps:
        return 1
    for turn in turns.values():
        turn(steps)
    number = max(1, math.ceil(least * steps / timed(partial(baseline, steps))[0]))
    for turn in turns.values():
        turn(number)
    return number
