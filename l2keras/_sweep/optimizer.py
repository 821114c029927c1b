"""A Keras optimizer over stacked weights, with a learning rate and a lambda for each member."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from l2keras import _validation, penalties
from l2keras._keras import optimizers
from l2keras._sweep.members import COUPLINGS, Member

# Their update of an element depends on that element's own gradient and state only.
ELEMENTWISE = (
    "SGD",
    "Adam",
    "AdamW",
    "Adamax",
    "Nadam",
    "RMSprop",
    "Adagrad",
    "Adadelta",
    "Ftrl",
    "Lion",
)


def check_elementwise(optimizer: Any) -> None:
    """Raises ValueError, by name, for what does not update every weight on its own.

    A class of the user's is refused whatever its name: `sweep` steps with a copy of Keras' own.
    """
    name = type(optimizer).__name__
    known = name in ELEMENTWISE and isinstance(optimizer, getattr(keras.optimizers, name))
    module = type(optimizer).__module__  # on torch Keras makes subclasses of its own
    if not known or module.split(".")[0] != "keras":
        raise ValueError(
            _validation.error(
                f"`sweep` needs an elementwise optimizer: {', '.join(ELEMENTWISE)}.",
                f"optimizer={name} of {module}",
                "Train its members one by one, with WeightDecay.",
            )
        )
    if optimizer.weight_decay:
        raise ValueError(
            _validation.error(
                "`sweep` needs an optimizer without weight decay of its own: decay would be "
                "applied twice.",
                f"{name}(weight_decay={optimizer.weight_decay!r})",
                'Pass weight_decay=None (or Adam for AdamW), lam= and coupling="decoupled".',
            )
        )
    for key in ("clipnorm", "global_clipnorm"):
        if getattr(optimizer, key, None) is not None:
            raise ValueError(
                _validation.error(
                    f"`sweep` cannot take {key}: the norm would be that of all members together.",
                    f"{name}({key}={getattr(optimizer, key)!r})",
                    "Use clipvalue, or train the members one by one.",
                )
            )


class Coefficients:
    """The learning rates and lambdas of a group, as variables of shape (members,).

    Args:
        members: Of the whole sweep: they decide which couplings and schedules the step is traced
            with, so that every group of the sweep can run it.
        size: Members in a group.
    """

    def __init__(self, members: Sequence[Member], size: int) -> None:
        schedules = {id(m.learning_rate): m.learning_rate for m in members if _is_schedule(m)}
        self._schedules = list(schedules.values())  # by identity: a config may leave things out
        self.used = [c for c in COUPLINGS if any(m.coupling == c and m.lam for m in members)]
        floatx = keras.config.floatx()
        self._rates = keras.Variable(np.zeros(size), dtype=floatx, trainable=False)
        self._which = keras.Variable(np.zeros(size), dtype="int32", trainable=False)
        self._lams = {
            coupling: keras.Variable(np.zeros(size), dtype=floatx, trainable=False)
            for coupling in self.used
        }

    @property
    def variables(self) -> list[Any]:
        return [self._rates, self._which, *self._lams.values()]

    def load(self, members: Sequence[Member]) -> None:
        """Sets the values of these members."""
        keys = [id(schedule) for schedule in self._schedules]
        which = [keys.index(id(m.learning_rate)) if _is_schedule(m) else -1 for m in members]
        self._which.assign(np.array(which))
        self._rates.assign(np.array([0.0 if _is_schedule(m) else m.learning_rate for m in members]))
        for coupling, variable in self._lams.items():
            own = [m.lam / m.peak if m.coupling == coupling else 0.0 for m in members]
            variable.assign(np.array(own))

    def learning_rate(self, step: Any) -> Any:
        """Shape (members,)."""
        constant = ops.convert_to_tensor(self._rates)
        if not self._schedules:
            return constant
        now = ops.stack([ops.cast(s(step), constant.dtype) for s in self._schedules])
        which = ops.convert_to_tensor(self._which)
        return ops.where(which < 0, constant, ops.take(now, ops.maximum(which, 0)))

    def lam(self, coupling: str) -> Any:
        """Shape (members,); 0 for the members of another coupling."""
        return ops.convert_to_tensor(self._lams[coupling])


def stacked_optimizer(optimizer: Any, variables: Sequence[Any], coefficients: Coefficients) -> Any:
    """A copy of `optimizer` for stacked `variables`, with one learning rate for each member."""
    name = type(optimizer).__name__
    base = getattr(keras.optimizers, "Adam" if name == "AdamW" else name)

    def update_step(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
        base.update_step(self, gradient, variable, by_member(learning_rate, variable))

    kind: Any = type(f"Stacked{base.__name__}", (base,), {"update_step": update_step})
    # The scale of the loss is taken out of the gradient again, and decay of its own is zero.
    config = optimizers.config_with(optimizer, 0.0)
    stacked = kind.from_config({**config, "loss_scale_factor": None, "weight_decay": None})
    stacked.build(list(variables))
    stacked.learning_rate = lambda: coefficients.learning_rate(optimizers.batches(stacked))
    return stacked


def by_member(values: Any, variable: Any) -> Any:
    """`values` of shape (members,), to multiply a stacked variable with; in its dtype."""
    shape = (-1, *[1] * (len(variable.shape) - 1))
    return ops.reshape(ops.cast(values, variable.dtype), shape)


def decay_hook(coefficients: Coefficients, decayed: set[int]) -> Callable[..., None]:
    """What runs around every update: the decay of the variables whose ids are in `decayed`."""

    def hook(
        optimizer: Any, grads: Sequence[Any], variables: Sequence[Any], rate: Any, update: Any
    ) -> None:
        chosen = [i for i, variable in enumerate(variables) if id(variable) in decayed]
        grads = list(grads)
        if "coupled" in coefficients.used:
            for i in chosen:
                lam = by_member(coefficients.lam("coupled"), variables[i])
                grads[i] = grads[i] + penalties.penalty_gradient(variables[i], lam)
        pairs = [(variables[i], _factor(coefficients, rate, variables[i])) for i in chosen]
        optimizers.rewrite(optimizer, _multiplied, [p for p in pairs if p[1] is not None])
        update(grads, variables, rate)

    return hook


def _factor(coefficients: Coefficients, rate: Any, variable: Any) -> Any:
    """1 - eta * lam, or 1 - eta / peak * lam; None where no member decays so."""
    lams = [coefficients.lam(c) for c in ("decoupled", "independent") if c in coefficients.used]
    if not lams:
        return None
    return penalties.shrink_factor(by_member(rate, variable), by_member(sum(lams), variable))


def _multiplied(value: Any, factor: Any) -> Any:
    return value * factor


def _is_schedule(member: Member) -> bool:
    return isinstance(member.learning_rate, LearningRateSchedule)
