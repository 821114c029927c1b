"""lam as a time: how long the weights remember, and how long until half is gone."""

from __future__ import annotations

import math
from typing import Any

from l2keras import _calls, _validation

_RATE = "Pass the constant learning rate, or the peak of a schedule."


@_calls.explained("lam_from_timescale")
def lam_from_timescale(*, epochs: float, steps_per_epoch: int, learning_rate: float) -> float:
    """The lam whose decay averages the weights over that many epochs.

    Convention: `lam` is the coefficient of `W` in the gradient, so that a step of decay is
    (1 - eta*lam) * W. The weights are then a moving average of the updates, over

        tau = 1 / (eta * lam) steps

    Source: Wang and Aitchison, arXiv 2405.13698, who find the best tau in epochs to stay put as
    model and data grow.

    Args:
        epochs: The timescale in epochs; a positive float, of one step or more.
        steps_per_epoch: Updates per epoch; 1 to have the timescale in steps.
        learning_rate: eta, a positive float: the constant one, or the peak of a schedule.

    Raises:
        TypeError, ValueError: An argument is not a positive number, or the timescale is shorter
            than a step (eta*lam above 1: every step would change the sign of the weights).

    Example:

    >>> from l2keras import lam_from_timescale
    >>> lam_from_timescale(epochs=10, steps_per_epoch=100, learning_rate=0.01)
    0.1
    """
    steps = _steps(epochs, steps_per_epoch)
    rate = _validation.check_positive(learning_rate, "learning_rate", _RATE)
    if steps < 1.0:
        raise ValueError(
            _validation.error(
                "The timescale must be one step or more.",
                f"epochs={_validation.shown(epochs)} with "
                f"steps_per_epoch={_validation.shown(steps_per_epoch)}, {steps!r} steps",
                "Below it eta*lam is above 1, and every step changes the sign of the weights.",
            )
        )
    return 1.0 / (rate * steps)


@_calls.explained("timescale")
def timescale(lam: float, *, steps_per_epoch: int, learning_rate: float) -> float:
    """Over how many epochs decay with `lam` averages the weights: the inverse.

    Convention: `lam` is the coefficient of `W` in the gradient; tau = 1 / (eta * lam) steps.
    Source: arXiv 2405.13698.

    Args:
        lam: Finite, non-negative float; 0 gives infinity.
        steps_per_epoch: Updates per epoch; 1 to have the timescale in steps.
        learning_rate: eta, a positive float: the constant one, or the peak of a schedule.

    Raises:
        TypeError, ValueError: An argument is not such a number, or eta*lam is above 1.

    Example:

    >>> from l2keras import timescale
    >>> timescale(0.1, steps_per_epoch=100, learning_rate=0.01)
    10.0
    """
    decay = _decay_per_step(lam, learning_rate)
    steps_per_epoch = _validation.check_count(steps_per_epoch, "steps_per_epoch")
    return 1.0 / decay / steps_per_epoch if decay else math.inf


@_calls.explained("lam_from_half_life")
def lam_from_half_life(*, epochs: float, steps_per_epoch: int, learning_rate: float) -> float:
    """The lam whose decay alone halves a weight in that many epochs.

    Convention: `lam` is the coefficient of `W` in the gradient. Exactly, not to first order:

        (1 - eta * lam) ** n = 1/2,    n = epochs * steps_per_epoch

    Source: the update of arXiv 1711.05101 without a gradient.

    Args:
        epochs: The half-life in epochs; a positive float.
        steps_per_epoch: Updates per epoch; 1 to have the half-life in steps.
        learning_rate: eta, the constant learning rate, a positive float.

    Raises:
        TypeError, ValueError: An argument is not a positive number.

    Example:

    >>> from l2keras import lam_from_half_life
    >>> lam_from_half_life(epochs=1, steps_per_epoch=1, learning_rate=0.1)  # W/2 in one step
    5.0
    """
    steps = _steps(epochs, steps_per_epoch)
    rate = _validation.check_positive(learning_rate, "learning_rate", _RATE)
    return -math.expm1(-math.log(2.0) / steps) / rate


@_calls.explained("half_life")
def half_life(lam: float, *, steps_per_epoch: int, learning_rate: float) -> float:
    """In how many epochs decay with `lam` alone halves a weight: the inverse.

    Convention: `lam` is the coefficient of `W` in the gradient; (1 - eta*lam) ** n = 1/2.
    Source: the update of arXiv 1711.05101 without a gradient.

    Args:
        lam: Finite, non-negative float; 0 gives infinity.
        steps_per_epoch: Updates per epoch; 1 to have the half-life in steps.
        learning_rate: eta, the constant learning rate, a positive float.

    Raises:
        TypeError, ValueError: An argument is not such a number, or eta*lam is above 1.

    Example:

    >>> from l2keras import half_life
    >>> half_life(0.5, steps_per_epoch=1, learning_rate=1.0)  # a step of decay leaves half
    1.0
    """
    decay = _decay_per_step(lam, learning_rate)
    steps_per_epoch = _validation.check_count(steps_per_epoch, "steps_per_epoch")
    if decay == 0.0:
        return math.inf
    if decay == 1.0:
        return 0.0  # nothing is left after the first step
    return -math.log(2.0) / math.log1p(-decay) / steps_per_epoch


def _steps(epochs: Any, steps_per_epoch: Any) -> float:
    epochs = _validation.check_positive(epochs, "epochs", "Pass a number of epochs above zero.")
    count: int = _validation.check_count(steps_per_epoch, "steps_per_epoch")
    steps: float = epochs * count
    return steps


def _decay_per_step(lam: Any, learning_rate: Any) -> float:
    """eta * lam, the fraction of W that a step of decay takes."""
    lam = _validation.check_lam(lam, remedy="For no decay pass 0.")
    decay: float = lam * _validation.check_positive(learning_rate, "learning_rate", _RATE)
    if decay > 1.0:
        raise ValueError(
            _validation.error(
                "learning_rate * lam, the fraction of W that a step of decay takes, must be at "
                "most 1.",
                f"{decay!r}",
                "Above it every step changes the sign of the weights: pass a smaller lam.",
            )
        )
    return decay
