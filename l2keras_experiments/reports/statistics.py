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
    def bar(self) -> float:
        """Half the length of an error bar: the half width; of two values half their range.

        The interval of two values is 12.7 times as wide as their range.
        """
        return (self.half_width or 0.0) / (_quantile(2) if self.n == 2 else 1.0)

    @property
    def low(self) -> float:
        """The lower end of an error bar."""
        return self.mean - self.bar

    @property
    def high(self) -> float:
        """The upper end of an error bar."""
        return self.mean + self.bar

    @property
    def is_zero(self) -> bool:
        """Whether the mean is zero to the digits that are shown."""
        return float(str(self).partition(" ")[0]) == 0

    def __str__(self) -> str:
        """Rounded to two digits of the bar: 0.8230 ± 0.0041; of two values 0.82 (0.81 to 0.83)."""
        if not math.isfinite(self.mean):
            return "diverged"
        if not self.bar:
            return f"{self.mean:.4g}"
        digits = min(9, max(0, 1 - math.floor(math.log10(self.bar))))
        mean, low, high, bar = (
            f"{number:.{digits}f}" for number in (self.mean, self.low, self.high, self.bar)
        )
        return f"{mean} ({low} to {high})" if self.n == 2 else f"{mean} ± {bar}"


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
    return Interval(mean, _quantile(n) * float(array.std(ddof=1)) / math.sqrt(n), n)


def _quantile(n: int) -> float:
    """Student's t for the mean of n values."""
    return float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))


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
    width, and means nothing. Two seeds are "too few" unless their interval leaves out zero.
    """
    seeds = sorted(set(a) & set(b))
    differences = [a[seed] - b[seed] for seed in seeds]
    found = interval(differences)
    scale = max((abs(value) for seed in seeds for value in (a[seed], b[seed])), default=0.0)
    return Difference(found, _verdict(found, differences, ROUNDING * scale))


def _verdict(found: Interval, differences: Sequence[float], rounding: float) -> str:
    if differences and max(map(abs, differences)) <= rounding:
        return "equal"
    if found.half_width is None:
        return "too few seeds"
    if max(differences) - min(differences) <= rounding:
        return "no spread"
    if abs(found.mean) > found.half_width:
        return "clear"
    # Student's interval of two is so wide that it says nothing beside their range.
    return "too few seeds" if found.n == 2 else "within noise"
