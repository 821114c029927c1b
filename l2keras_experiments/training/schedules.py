"""Learning-rate schedules by name: the peak rate and the number of steps in, a schedule out.

`optimizer.schedule` names one of these functions, or any other by `_target_`. s is the step, T the
number of steps, eta the peak rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops
from keras.optimizers import schedules


def constant(learning_rate: float) -> float:
    """eta."""
    return learning_rate


def cosine(learning_rate: float, num_steps: int, final: float = 0.0) -> Any:
    """eta * (final + (1 - final) * (1 + cos(pi * s / T)) / 2)."""
    return schedules.CosineDecay(learning_rate, num_steps, alpha=final)


def linear(learning_rate: float, num_steps: int, final: float = 0.0) -> Any:
    """eta * (1 - (1 - final) * s / T)."""
    return schedules.PolynomialDecay(learning_rate, num_steps, final * learning_rate)


def exponential(learning_rate: float, num_steps: int, final: float = 0.01) -> Any:
    """eta * final ** (s / T)."""
    return schedules.ExponentialDecay(learning_rate, num_steps, final)


def piecewise(
    learning_rate: float,
    num_steps: int,
    milestones: Sequence[float] = (0.5, 0.75),
    factor: float = 0.1,
) -> Any:
    """eta * factor ** k after k of the milestones, which are fractions of T."""
    if list(milestones) != sorted(set(milestones)) or not all(0 < m < 1 for m in milestones):
        raise ValueError(
            f"`milestones` must grow from above 0 to below 1. Received: {list(milestones)}. "
            "Write them as fractions of training, such as [0.5, 0.75]."
        )
    boundaries = [max(1, round(milestone * num_steps)) for milestone in milestones]
    rates = [learning_rate * factor**k for k in range(len(boundaries) + 1)]
    return schedules.PiecewiseConstantDecay(boundaries, rates)


def one_cycle(
    learning_rate: float,
    num_steps: int,
    peak_at: float = 0.3,
    start: float = 0.04,
    final: float = 4e-6,
) -> Any:
    """A cosine from start * eta to eta at peak_at * T, then one to final * eta.

    From 4 steps on equal to torch's OneCycleLR, also by default: `div_factor=25` is start 0.04,
    and `final_div_factor=1e4` of that is final 4e-6.
    """
    rise = peak_at * num_steps - 1  # between two steps, as torch's
    rise = rise if rise > 0 else 1.0
    fall = num_steps - 1 - rise
    return OneCycle(learning_rate, rise, fall if fall > 0 else 1.0, start, final)


@keras.saving.register_keras_serializable("l2keras_experiments")
class OneCycle(schedules.LearningRateSchedule):
    """A cosine up in `rise` steps, a cosine down in `fall` steps, then the last rate.

    Args:
        peak: The highest rate.
        rise, fall: Numbers of steps.
        start, final: The first and the last rate, as fractions of `peak`.
    """

    def __init__(self, peak: float, rise: float, fall: float, start: float, final: float) -> None:
        super().__init__()
        self._config = {"peak": peak, "rise": rise, "fall": fall, "start": start, "final": final}

    def __call__(self, step: Any) -> Any:
        peak, rise, fall = (self._config[key] for key in ("peak", "rise", "fall"))
        step = ops.cast(step, keras.config.floatx())
        up = ops.minimum(step / rise, 1.0)
        down = ops.clip((step - rise) / fall, 0.0, 1.0)
        rising = _cosine(self._config["start"] * peak, peak, up)
        return ops.where(step < rise, rising, _cosine(peak, self._config["final"] * peak, down))

    def get_config(self) -> dict[str, Any]:
        return dict(self._config)


@keras.saving.register_keras_serializable("l2keras_experiments")
class Warmup(schedules.LearningRateSchedule):
    """peak * s / steps for s < steps, then `after` at s - steps.

    Args:
        after: A schedule, or the rate that holds.
        peak: The rate that the warm-up leads to.
        steps: Number of steps of the warm-up.
    """

    def __init__(self, after: Any, peak: float, steps: int) -> None:
        super().__init__()
        self.after, self.peak, self.steps = after, peak, steps

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, keras.config.floatx())
        later = self.after
        if callable(later):
            later = later(ops.maximum(step - self.steps, 0.0))
        return ops.where(step < self.steps, self.peak * step / self.steps, later)

    def get_config(self) -> dict[str, Any]:
        after = keras.saving.serialize_keras_object(self.after)
        return {"after": after, "peak": self.peak, "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Warmup:
        after = keras.saving.deserialize_keras_object(config["after"])
        return cls(after, config["peak"], config["steps"])


def _cosine(first: float, last: float, done: Any) -> Any:
    """From `first` to `last`, where `done` goes from 0 to 1."""
    return last + (first - last) * (1.0 + ops.cos(math.pi * done)) / 2.0
