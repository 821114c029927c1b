"""Intervals and paired differences, against tables and sums done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from l2keras_experiments.reports.statistics import Interval, interval, paired


def test_an_interval_by_hand() -> None:
    """Of 1, 2, 3: mean 2, s = 1, and Student's t with 2 degrees of freedom is 4.3027."""
    found = interval([1.0, 2.0, 3.0])
    assert found.half_width is not None
    assert found.mean == 2.0
    assert found.n == 3
    assert found.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert (found.low, found.high) == (2.0 - found.half_width, 2.0 + found.half_width)


def test_an_interval_as_scipy_has_it() -> None:
    """On twenty draws the interval is that of scipy.stats.t.interval."""
    values = np.random.default_rng(0).normal(size=20)
    low, high = scipy.stats.t.interval(0.95, 19, values.mean(), scipy.stats.sem(values))
    found = interval(list(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


@pytest.mark.parametrize("values", [[1.0, math.nan], [math.inf, 1.0], []])
def test_what_diverged_has_no_mean(values: list[float]) -> None:
    """One value that is not finite spoils the mean; so does having none."""
    found = interval(values)
    assert math.isnan(found.mean)
    assert found.half_width is None
    assert str(found) == "diverged"


def test_one_value_has_no_interval() -> None:
    """A single seed has a mean and no width."""
    assert interval([0.5]) == Interval(0.5, None, 1)
    assert str(interval([0.5])) == "0.5"


@pytest.mark.parametrize(
    ("mean", "half_width", "text"),
    [
        (0.82304, 0.00411, "0.8230 ± 0.0041"),
        (0.823, 0.0113, "0.823 ± 0.011"),
        (12.34, 4.5, "12.3 ± 4.5"),
        (123.4, 45.6, "123 ± 46"),
        (0.5, 0.0, "0.5"),
    ],
)
def test_an_interval_is_rounded_to_what_is_known(mean: float, half_width: float, text: str) -> None:
    """The mean is written to the second digit of its half width."""
    assert str(Interval(mean, half_width, 5)) == text


def test_two_values_are_shown_by_their_range() -> None:
    """The interval of 0.87 and 0.93 is 12.7 times as wide as they are apart: 0.90 +- 0.38."""
    found = interval([0.87, 0.93])
    assert found.half_width == pytest.approx(12.7062 * 0.03, rel=1e-5)
    assert str(found) == "0.900 (0.870 to 0.930)"
    assert (found.low, found.high) == pytest.approx((0.87, 0.93))


def test_differences_pair_the_seeds() -> None:
    """Only seeds that both have count, and what a seed does to both falls out."""
    a = {0: 1.1, 1: 5.3, 2: 9.2, 7: 100.0}
    b = {0: 1.0, 1: 5.0, 2: 9.0, 8: -100.0}
    found = paired(a, b)
    assert found.interval.n == 3
    assert found.interval.mean == pytest.approx(0.2)
    # s of 0.1, 0.3, 0.2 is 0.1
    assert found.interval.half_width == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)
    assert found.verdict == "within noise"


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.19, 0.21, 0.2], "clear"),
        ([-0.19, -0.21, -0.2], "clear"),
        ([0.3, -0.1, 0.2], "within noise"),
        ([0.3], "too few seeds"),
        ([], "too few seeds"),
        ([0.0, 0.0, 0.0], "equal"),
        ([1e-9, 2e-9, 1e-9], "equal"),
        ([0.25, 0.25], "no spread"),
        ([math.nan, 0.1, 0.1], "too few seeds"),
    ],
)
def test_verdicts(differences: list[float], verdict: str) -> None:
    """Clear where the interval leaves out zero; equal within rounding; nothing from one seed."""
    b = dict.fromkeys(range(len(differences)), 10.0)
    a = {seed: 10.0 + difference for seed, difference in enumerate(differences)}
    assert paired(a, b).verdict == verdict
