"""Timescale and half-life: by hand, there and back, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from l2keras import half_life, lam_from_half_life, lam_from_timescale, timescale

SETTING: dict[str, Any] = {"steps_per_epoch": 100, "learning_rate": 0.1}


def test_the_timescale_is_one_over_eta_lam() -> None:
    """tau = 1 / (0.1 * 0.02) = 500 steps, which is 5 epochs of 100."""
    assert lam_from_timescale(epochs=5, **SETTING) == pytest.approx(0.02, rel=1e-15)
    assert timescale(0.02, **SETTING) == pytest.approx(5, rel=1e-15)
    assert timescale(0.02, steps_per_epoch=1, learning_rate=0.1) == pytest.approx(500, rel=1e-15)


@pytest.mark.parametrize("steps", [1, 2, 1000])
def test_half_a_weight_is_left_after_the_half_life(steps: int) -> None:
    """(1 - eta*lam) multiplied by itself that often is 1/2, exactly and not to first order."""
    lam = lam_from_half_life(epochs=steps, steps_per_epoch=1, learning_rate=0.1)
    assert math.prod([1 - 0.1 * lam] * steps) == pytest.approx(0.5, rel=1e-12)
    assert half_life(lam, steps_per_epoch=1, learning_rate=0.1) == pytest.approx(steps, rel=1e-12)


def test_a_half_life_in_epochs() -> None:
    """Two steps of an epoch that each leave sqrt(1/2) halve the weight."""
    lam = lam_from_half_life(epochs=1, steps_per_epoch=2, learning_rate=1.0)
    assert lam == pytest.approx(1 - math.sqrt(0.5), rel=1e-15)
    assert half_life(lam, steps_per_epoch=2, learning_rate=1.0) == pytest.approx(1, rel=1e-14)


def test_small_decay_keeps_its_digits() -> None:
    """At eta*lam = 1e-12 the half-life is log(2) * 1e12 to twelve digits."""
    result = half_life(1e-12, steps_per_epoch=1, learning_rate=1.0)
    assert result == pytest.approx(math.log(2) * 1e12, rel=1e-11)


def test_the_ends_of_the_range() -> None:
    """Without decay both are infinite; with eta*lam = 1 nothing is left after a step."""
    assert timescale(0.0, **SETTING) == half_life(0.0, **SETTING) == math.inf
    assert timescale(10.0, **SETTING) == 0.01
    assert half_life(10.0, **SETTING) == 0.0


@pytest.mark.parametrize("function", [timescale, half_life])
def test_more_than_everything_cannot_decay(function: Callable[..., float]) -> None:
    """eta*lam above 1 is refused with its value."""
    with pytest.raises(ValueError, match=r"at most 1. Received: 1.1. Above it"):
        function(11.0, **SETTING)
    with pytest.raises(ValueError, match="`lam` must be a finite, non-negative"):
        function(-1.0, **SETTING)


def test_a_timescale_below_a_step_is_refused() -> None:
    """It would mean eta*lam above 1."""
    with pytest.raises(ValueError, match=r"one step or more. Received: .* 0.5 steps"):
        lam_from_timescale(epochs=0.5, steps_per_epoch=1, learning_rate=0.1)


@pytest.mark.parametrize("function", [lam_from_timescale, lam_from_half_life])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("epochs", 0.0, ValueError),
        ("epochs", math.inf, ValueError),
        ("steps_per_epoch", 2.5, ValueError),
        ("steps_per_epoch", True, TypeError),
        ("learning_rate", -0.1, ValueError),
        ("learning_rate", lambda step: 0.1, TypeError),
    ],
)
def test_wrong_arguments_are_named(
    function: Callable[..., float], name: str, value: Any, error: type[Exception]
) -> None:
    """Each mistake is told by the argument that it is in."""
    with pytest.raises(error, match=f"`{name}` must be"):
        function(**{"epochs": 5, **SETTING, name: value})
