"""Means over seeds, how well they are known, and whether a difference is more than noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95
ROUNDING = 1e-6  # differences below this part of the values are rounding, not a finding


@dataclass(frozen=True)
class Interval:
    """The mean of n values and half the width of its confidence interval.

    Attributes:
        mean: nan if a value is not finite.
        half_width: Student's t times the standard error; None for fewer than two values.
        n: How many values.
    """

    mean: float
    half_width: float | None
    n: int

    @property
    def low(self) -> float:
        return self.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        return self.mean + (self.half_width or 0.0)

    def __str__(self) -> str:
        """Rounded to two digits of the half width, such as 0.8230 +- 0.0041."""
        if not math.isfinite(self.mean):
            return "diverged"
        if not self.half_width:
            return f"{self.mean:.4g}"
        digits = min(9, max(0, 1 - math.floor(math.log10(self.half_width))))
        return f"{self.mean:.{digits}f} ± {self.half_width:.{digits}f}"


def interval(values: Sequence[float]) -> Interval:
    """The mean with its 95 % confidence interval,

        mean +- t(0.975, n - 1) * s / sqrt(n)

    where s is the standard deviation with n - 1 in its denominator.
    """
    array = np.asarray(values, dtype=float)
    if not len(array) or not np.isfinite(array).all():
        return Interval(math.nan, None, len(array))
    mean, n = float(array.mean()), len(array)
    if n < 2:
        return Interval(mean, None, n)
    quantile = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    return Interval(mean, quantile * float(array.std(ddof=1)) / math.sqrt(n), n)


@dataclass(frozen=True)
class Difference:
    """What one thing has more than another, seed by seed.

    Attributes:
        interval: Of the differences a - b at the seeds that both have.
        verdict: "clear", "within noise", "equal", "no spread" or "too few seeds".
    """

    interval: Interval
    verdict: str


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Difference:
    """The mean of a - b over the seeds that both have, and what it is worth.

    Pairing removes what a seed does to both: the initial weights, the order of the batches.
    The verdict is "clear" where the 95 % interval leaves out zero. It is "equal" where no
    difference is more than rounding, and "no spread" where all differences are the same, as
    happens with few seeds and an accuracy that counts few examples: the interval then has no
    width, and means nothing.
    """
    seeds = sorted(set(a) & set(b))
    differences = [a[seed] - b[seed] for seed in seeds]
    found = interval(differences)
    scale = max((abs(value) for seed in seeds for value in (a[seed], b[seed])), default=0.0)
    return Difference(found, _verdict(found, differences, ROUNDING * scale))


def _verdict(found: Interval, differences: Sequence[float], rounding: float) -> str:
    if found.half_width is None:
        return "too few seeds"
    if max(map(abs, differences)) <= rounding:
        return "equal"
    if max(differences) - min(differences) <= rounding:
        return "no spread"
    return "clear" if abs(found.mean) > found.half_width else "within noise"
