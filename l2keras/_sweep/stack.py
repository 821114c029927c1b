"""The stacked weights of some members, and a step on them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from l2keras import _squares, penalties
from l2keras._sweep import vectorize
from l2keras._sweep.members import Member, State
from l2keras._sweep.optimizer import Coefficients, by_member, decay_hook, stacked_optimizer
from l2keras._sweep.template import Template


class Stack:
    """`size` members over the variables of a template. Loaded with one set after another.

    Args:
        template: The model that they share.
        optimizer: A Keras optimizer; its copy steps the stacked variables.
        members: All members of the sweep, see `Coefficients`.
        size: Members in this stack.
        decayed: Which of `template.trainable` decay applies to.
        clusters: The batch sizes whose training steps XLA compiles.
    """

    def __init__(
        self,
        template: Template,
        optimizer: Any,
        members: Sequence[Member],
        *,
        size: int,
        decayed: Sequence[bool],
        clusters: Collection[int] = (),
    ) -> None:
        self.size = size
        self._clusters = clusters
        self._template = template
        self.trainable = [vectorize.stacked(v, size) for v in template.trainable]
        self._other = [vectorize.stacked(v, size) for v in template.other]
        self.metrics = [vectorize.stacked(v, size) for v in template.metrics]
        self._decayed = [v for v, yes in zip(self.trainable, decayed, strict=True) if yes]
        self._coefficients = Coefficients(members, size)
        self.optimizer = stacked_optimizer(optimizer, self.trainable, self._coefficients)
        self._fresh = [np.array(ops.convert_to_numpy(v)) for v in self.optimizer.variables]
        floatx = keras.config.floatx()
        # Of the losses of the examples of an epoch, and of the penalties.
        self._sums = keras.Variable(np.zeros((2, size)), dtype=floatx, trainable=False)

    @property
    def fixed(self) -> list[Any]:
        """The variables that an evaluation takes."""
        variables = [*self.trainable, *self._other, *self.metrics, self._sums]
        return [*variables, *self._coefficients.variables]

    @property
    def variables(self) -> list[Any]:
        """Those that a training step takes."""
        return [*self.fixed, *self.optimizer.variables]

    @property
    def hook(self) -> Callable[..., None]:
        """What decays around the optimizer's update."""
        return decay_hook(self._coefficients, {id(variable) for variable in self._decayed})

    def load(self, members: Sequence[Member], states: Sequence[State]) -> None:
        """Begins with these members where their states are."""
        self._coefficients.load(members)
        for i, variable in enumerate(self.trainable):
            variable.assign(np.stack([state.trainable[i] for state in states]))
        for i, variable in enumerate(self._other):
            variable.assign(np.stack([state.other[i] for state in states]))
        for i, (variable, fresh) in enumerate(
            zip(self.optimizer.variables, self._fresh, strict=True)
        ):
            own = [state.optimizer[i] for state in states if state.optimizer]
            if not own:
                variable.assign(fresh)
            else:
                variable.assign(np.stack(own) if self._is_stacked(variable) else own[0])

    def states(self) -> list[State]:
        """The members where they are now."""
        trainable = [ops.convert_to_numpy(v) for v in self.trainable]
        other = [ops.convert_to_numpy(v) for v in self._other]
        slots = [(ops.convert_to_numpy(v), self._is_stacked(v)) for v in self.optimizer.variables]
        return [
            State(
                [np.array(value[i]) for value in trainable],
                [np.array(value[i]) for value in other],
                [np.array(value[i] if stacked else value) for value, stacked in slots],
            )
            for i in range(self.size)
        ]

    def _is_stacked(self, variable: Any) -> bool:
        """Whether an optimizer variable belongs to weights, and is no count or product."""
        return len(variable.shape) > 0

    def final_states(self) -> list[State]:
        """The members as `fit` would leave them now: with averaged weights, if it averages."""
        if not self.optimizer.use_ema:
            return self.states()
        kept = [ops.convert_to_numpy(variable).copy() for variable in self.trainable]
        self.optimizer.finalize_variable_values(self.trainable)
        states = self.states()
        for variable, value in zip(self.trainable, kept, strict=True):
            variable.assign(value)
        return states

    def begin_epoch(self) -> None:
        for variable, fresh in zip(self.metrics, self._template.fresh_metrics, strict=True):
            variable.assign(ops.broadcast_to(fresh, variable.shape))
        self._sums.assign(ops.zeros(self._sums.shape, self._sums.dtype))

    @property
    def collected(self) -> tuple[list[Any], Any]:
        """What an epoch has added up: metric variables, and the sums of losses and penalties."""
        return [variable.value for variable in self.metrics], self._sums.value

    def train_step(self, x: Any, y: Any) -> None:
        axis = self._axis_of(x)
        examples = _examples(x, axis)
        lanes = 1
        if examples in self._clusters:
            lanes = _squares.LANES
            if axis is None:
                x, y = vectorize.repeated((x, y), self.size)
                axis = 0
        losses, other, metrics, grads = vectorize.gradients(
            self._template.train_step, self._tensors(), x, y, axis
        )
        self._add(losses, other, metrics, examples, lanes)
        self.optimizer.apply(self._with_penalty(list(grads)), self.trainable)

    def _with_penalty(self, grads: list[Any]) -> list[Any]:
        if "penalty" not in self._coefficients.used:
            return grads
        decayed = {id(variable) for variable in self._decayed}
        for i, variable in enumerate(self.trainable):
            if id(variable) in decayed:
                lam = by_member(self._coefficients.lam("penalty"), variable)
                grads[i] = grads[i] + penalties.penalty_gradient(variable, lam)
        return grads

    def test_step(self, x: Any, y: Any) -> None:
        axis = self._axis_of(x)
        losses, metrics = vectorize.over_members(
            self._template.test_step, *self._tensors(), x, y, axes=(0, 0, 0, axis, axis)
        )
        self._add(losses, [], metrics, _examples(x, axis))

    def _tensors(self) -> tuple[list[Any], list[Any], list[Any]]:
        """The trainable, other and metric variables now."""
        trainable, other, metrics = (
            [ops.convert_to_tensor(variable.value) for variable in part]
            for part in (self.trainable, self._other, self.metrics)
        )
        return trainable, other, metrics

    def _axis_of(self, x: Any) -> int | None:
        """0 where each member has a batch of its own, None where one is for all."""
        return 0 if len(keras.tree.flatten(x)[0].shape) > self._template.rank else None

    def _add(self, losses: Any, other: Any, metrics: Any, examples: int, lanes: int = 1) -> None:
        """Adds a batch to the sums of the epoch, and keeps the new states."""
        for variable, value in zip([*self._other[: len(other)], *self.metrics],
                                   [*other, *metrics], strict=True):  # fmt: skip
            variable.assign(value)
        losses = ops.cast(losses, self._sums.dtype)
        decays = "penalty" in self._coefficients.used
        penalty = self._penalty(lanes) if decays else ops.zeros_like(losses)
        self._sums.assign_add(ops.stack([losses, penalty]) * examples)

    def _penalty(self, lanes: int) -> Any:
        """(lam / 2) * sum(W ** 2) of each member, shape (members,)."""
        norms = vectorize.half_squared_norms([v.value for v in self._decayed], lanes)
        return self._coefficients.lam("penalty") * norms


def _examples(x: Any, axis: int | None) -> int:
    """In a batch, or in that of each member."""
    return int(keras.tree.flatten(x)[0].shape[0 if axis is None else 1])
