"""Variants taking turns, and what their times say.

A round times every variant once, in an order drawn anew; what drifts during the run then falls on
all of them alike. All variants are built anew during the run, in another order. The added time of
a variant is the median over the rounds of its difference to another variant in the same round, and
its noise the interquartile range of these differences.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.stepcost.steps import Steps
from benchmarks.stepcost.variants import NONE

WARM_UP, BUILDS = 3, 2
SECONDS = 0.05  # that the steps of one variant take in one round, at least


@dataclass(frozen=True)
class Timings:
    """Seconds of a step for each variant; the n-th of every variant are of the same round."""

    seconds: Mapping[str, Sequence[float]]

    def of_rounds(self, rounds: Sequence[int]) -> Timings:
        """Those of these rounds, which may repeat."""
        return Timings({name: [t[n] for n in rounds] for name, t in self.seconds.items()})

    def median(self, name: str) -> float:
        """Seconds of a step."""
        return statistics.median(self.seconds[name])

    def differences(self, name: str, over: str = NONE) -> list[float]:
        """Seconds that a step takes longer than one of `over`, round by round."""
        pairs = zip(self.seconds[name], self.seconds[over], strict=True)
        return [one - other for one, other in pairs]

    def added(self, name: str, over: str = NONE) -> float:
        """The median of the differences."""
        return statistics.median(self.differences(name, over))

    def noise(self, name: str, over: str = NONE) -> float:
        """The interquartile range of the differences."""
        lower, _, upper = statistics.quantiles(self.differences(name, over), method="inclusive")
        return upper - lower


def compare(names: Sequence[str], build: Callable[[str], Steps], rounds: int) -> Timings:
    """The rounds of a few builds of every variant: two builds of the same may differ in speed."""
    builds = min(BUILDS, rounds)
    random = Random(0)
    parts = []
    for number in range(builds):
        steps = {name: build(name) for name in random.sample(names, len(names))}
        share = rounds // builds + (number < rounds % builds)
        parts.append(take_turns(steps, share, random))
    return joined(names, parts)


def joined(names: Sequence[str], parts: Sequence[Timings]) -> Timings:
    """The rounds of one after those of the other."""
    return Timings({name: [one for part in parts for one in part.seconds[name]] for name in names})


def take_turns(steps: Mapping[str, Steps], rounds: int, random: Random) -> Timings:
    """Times every variant in every round; `none` says how many steps that takes."""
    for take in steps.values():
        take(WARM_UP)
    number = max(1, math.ceil(SECONDS / _seconds(steps[NONE], WARM_UP)))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name in random.sample(list(steps), len(steps)):
            seconds[name].append(_seconds(steps[name], number))
    return Timings({name: times[1:] for name, times in seconds.items()})  # the first warms up


def _seconds(take: Steps, number: int) -> float:
    start = time.perf_counter()
    take(number)
    return (time.perf_counter() - start) / number
