"""Variants taking turns, and what their times say.

A round times every variant once, in an order drawn anew; what drifts during the run then falls on
all of them alike. The added time of a variant is the median over the rounds of its difference to
another variant in the same round, and its noise the interquartile range of these differences.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.stepcost.steps import Steps
from benchmarks.stepcost.variants import NONE

WARM_UP = 3
SECONDS = 0.05  # that the steps of one variant take in one round, at least


@dataclass(frozen=True)
class Timings:
    """Seconds of a step for each variant; the n-th of every variant are of the same round."""

    seconds: Mapping[str, Sequence[float]]

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


def take_turns(steps: Mapping[str, Steps], rounds: int) -> Timings:
    """Times every variant in every round; `none` says how many steps that takes."""
    for take in steps.values():
        take(WARM_UP)
    number = max(1, math.ceil(SECONDS / _seconds(steps[NONE], WARM_UP)))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    order, shuffle = list(steps), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            seconds[name].append(_seconds(steps[name], number))
    return Timings(seconds)


def _seconds(take: Steps, number: int) -> float:
    start = time.perf_counter()
    take(number)
    return (time.perf_counter() - start) / number
