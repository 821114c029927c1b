"""What a compiled step goes on with: the values of a lam that reads more than the step.

A step is traced once. A callable lam is a part of it, and a variable or a Python value that the
callable reads may be a constant in it from then on:

    TensorFlow   follows variables, keeps Python values
    JAX          follows the variables of the optimizer, keeps all else
    torch, eager steps    follow everything

A schedule of Keras is not among these: another setting of it traces the step anew.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from l2keras import _validation
from l2keras._decay.rules import Lam, lam_at, not_traceable
from l2keras._keras import retrace
from l2keras._keras.optimizers import settings_of_schedule

_IS_TENSORFLOW = keras.backend.backend() == "tensorflow"
_TOLERANCE = 1e-4  # of the largest value; a compiled function rounds otherwise
_AHEAD = (0, 10, 100, 1_000, 10_000)  # steps from now at which the largest value is looked for


def traced_lams(rules: list[Any], members: list[Any], model: Any) -> list[TracedLam]:
    """One for each lam of the rules that a step, traced now, may go on with.

    Raises:
        ValueError: a callable that cannot be traced.
    """
    if not retrace.is_traced(model):
        return []
    return [
        TracedLam(lam, member.iterations + 0, member)
        for rule, member in zip(rules, members, strict=True)
        for _, lam in rule.lams
        if callable(lam) and settings_of_schedule(lam) is None
    ]


class TracedLam:
    """A callable lam at the step where it was traced.

    Args:
        lam: The callable.
        step: The count of updates, a tensor.
        optimizer: Whose update decays; on JAX its variables are arguments of the step.
    """

    def __init__(self, lam: Lam, step: Any, optimizer: Any) -> None:
        self._lam, self._step, self._optimizer = lam, _plain(step), optimizer
        try:
            self._compiled = _compiled(lam, self._step)
        except Exception as problem:  # of the callable
            raise ValueError(not_traceable(lam, problem)) from problem
        self._difference = (0.0, 0.0)
        ahead = [float(self._compiled(_plain(step + later))) for later in _AHEAD]
        self._largest = max((abs(value) for value in ahead if math.isfinite(value)), default=0.0)

    def is_stale(self) -> bool:
        """Whether the callable has another value now than the compiled step has, at the next step.

        The largest value is the scale: a cosine that ends at 0 is all rounding there, and so is a
        warm-up where it begins. A value that jumps may do so a step earlier or later, by rounding:
        the step before has to differ, too.
        """
        step = self._optimizer.iterations
        if not (self._differs(_plain(step - 1)) and self._differs(_plain(step + 0))):
            return False
        return _IS_TENSORFLOW or not self._reads_the_optimizer()

    def _differs(self, step: Any) -> bool:
        now, traced = float(lam_at(self._lam, step)), float(self._compiled(step))
        self._difference = now, traced
        self._largest = max(self._largest, abs(now), abs(traced))
        return not abs(now - traced) <= _TOLERANCE * self._largest

    def check(self) -> None:
        """Raises ValueError where the step decays by another lam than the callable has now."""
        if self.is_stale():
            now, traced = self._difference
            raise ValueError(
                _validation.error(
                    "A callable `lam` must be a function of the step alone: the compiled step "
                    "goes on with what else it read when it was traced.",
                    f"lam={_validation.shown(self._lam)}, which gives {now:.6g} now and "
                    f"{traced:.6g} in the compiled step",
                    "Assign callback.lam between epochs, or pass run_eagerly=True to compile.",
                )
            )

    def _reads_the_optimizer(self) -> bool:
        """Whether it reads variables, and only those that the step gets anew."""
        ids = {id(variable) for variable in self._optimizer.variables}
        with _Reads() as reads:
            lam_at(self._lam, self._step)
        return bool(reads.ids) and reads.ids <= ids


def _plain(step: Any) -> Any:
    """On JAX an array on no device: the variables of a `keras.distribution` are on several."""
    return step if _IS_TENSORFLOW else ops.convert_to_numpy(step)


def _compiled(lam: Lam, step: Any) -> Any:
    """The callable, traced as it is in a step."""

    def function(step: Any) -> Any:
        return ops.convert_to_tensor(lam_at(lam, step))

    if not _IS_TENSORFLOW:
        import jax

        return jax.jit(function).lower(step).compile()
    import tensorflow as tf

    # A concrete one: TensorFlow warns where functions of the same code are traced at their calls.
    return tf.function(function, autograph=False).get_concrete_function(step)


class _Reads(keras.StatelessScope):
    """Notes the variables that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[int] = set()

    def get_current_value(self, variable: Any) -> Any:
        self.ids.add(id(variable))
        return super().get_current_value(variable)
