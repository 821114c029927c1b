"""A group of members, trained at once: their weights, stacked, and what is done with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from l2keras import _squares, penalties
from l2keras._keras import optimizers
from l2keras._sweep import interrupts, loops, stacking, vectorize
from l2keras._sweep.members import Member, State
from l2keras._sweep.optimizer import Coefficients, by_member, decay_hook, stacked_optimizer
from l2keras._sweep.template import Template

CHUNK = 64  # steps in one compiled call: Ctrl-C is heard after it


class Group:
    """`size` members over the variables of a template. Loaded with one set after another.

    Args:
        template: The model that they share.
        optimizer: A Keras optimizer; its copy steps the stacked variables.
        members: All members of the sweep, see `Coefficients`.
        size: Members in a group.
        decayed: Which of `template.trainable` decay applies to.
        train, test: (x, y) of all examples; `test` may be None.
        clusters: The batch sizes whose training step XLA compiles as a whole, see `loops.Loop`.
    """

    def __init__(
        self,
        template: Template,
        optimizer: Any,
        members: Sequence[Member],
        *,
        size: int,
        decayed: Sequence[bool],
        train: tuple[Any, Any],
        test: tuple[Any, Any] | None,
        clusters: Collection[int] = (),
    ) -> None:
        self.size = size
        self._clusters = clusters
        self._template = template
        self.trainable = [vectorize.stacked(v, size) for v in template.trainable]
        self._other = [vectorize.stacked(v, size) for v in template.other]
        self._metrics = [vectorize.stacked(v, size) for v in template.metrics]
        self._decayed = [v for v, yes in zip(self.trainable, decayed, strict=True) if yes]
        self._coefficients = Coefficients(members, size)
        self.optimizer = stacked_optimizer(optimizer, self.trainable, self._coefficients)
        self._fresh = [np.array(ops.convert_to_numpy(v)) for v in self.optimizer.variables]
        floatx = keras.config.floatx()
        self._sums = [keras.Variable(np.zeros(size), dtype=floatx, trainable=False)
                      for _ in ("data_loss", "penalty")]  # fmt: skip
        fixed = [*self.trainable, *self._other, *self._metrics, *self._sums]
        fixed += self._coefficients.variables
        variables = [*fixed, *self.optimizer.variables]
        apart = stacking.steps_apart(template.model)
        self._fit = loops.Loop(self._train_step, variables, *train, clusters=clusters, apart=apart)
        self._evaluate = (
            None if test is None else loops.Loop(self._test_step, fixed, *test, apart=apart)
        )
        self._results = loops.compiled(
            lambda values: vectorize.over_members(template.metric_results, values, axes=(0,))
        )
        self._prepared = False

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

    @property
    def programs(self) -> int:
        """How many steps have been compiled by now."""
        return self._fit.programs + (self._evaluate.programs if self._evaluate else 0)

    def prepare(self, test_batches: Sequence[np.ndarray]) -> None:
        """Traces what else only comes after the first epoch, so that it is refused before.

        Raises:
            NotVectorizedError: the evaluation, or the result of a metric.
        """
        if self._prepared or self.size == 1:  # one alone is not vectorized
            return
        self._prepared = True
        self._begin_epoch()
        if self._evaluate is not None:
            self._evaluate.trace(test_batches[0][:CHUNK])
        if self._metrics:
            loops.trace(self._results, [variable.value for variable in self._metrics])

    def fit(self, batches: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """One epoch, and its metrics as `fit` logs them, each of shape (members,).

        Args:
            batches: int32 arrays of example numbers, shape (steps, batch) where all members see
                the same, else (steps, members, batch); of one batch size each.
        """
        with optimizers.hooked([self.optimizer], self._hook()):
            logs = self._run(self._fit, batches)
        return {"loss": logs["data_loss"] + logs["penalty"], **logs}

    def evaluate(self, batches: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """The metrics on the test examples, as `fit` logs them for `validation_data`."""
        assert self._evaluate is not None
        logs = self._run(self._evaluate, batches)
        logs = {"loss": logs["data_loss"] + logs["penalty"], **logs}
        return {f"val_{name}": values for name, values in logs.items()}

    def _hook(self) -> Any:
        return decay_hook(self._coefficients, {id(variable) for variable in self._decayed})

    def _begin_epoch(self) -> None:
        for variable, fresh in zip(self._metrics, self._template.fresh_metrics, strict=True):
            variable.assign(np.broadcast_to(fresh, variable.shape))
        for variable in self._sums:
            variable.assign(np.zeros(self.size))

    def _run(self, loop: loops.Loop, batches: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        self._begin_epoch()
        chunk = 1 if keras.backend.backend() == "torch" else CHUNK
        for indices in batches:
            for start in range(0, len(indices), chunk):
                loop(indices[start : start + chunk])
                interrupts.raise_if_heard()
        examples = sum(indices.shape[0] * indices.shape[-1] for indices in batches)
        data_loss, penalty = (ops.convert_to_numpy(v) / examples for v in self._sums)
        results = self._metric_results()
        return {**results, "data_loss": data_loss, "penalty": penalty}

    def _metric_results(self) -> Mapping[str, np.ndarray]:
        if not self._metrics:
            return {}
        results = self._results([variable.value for variable in self._metrics])
        return {name: np.array(ops.convert_to_numpy(value)) for name, value in results.items()}

    def _train_step(self, x: Any, y: Any) -> None:
        axis = self._axis_of(x)
        losses, other, metrics, grads = vectorize.gradients(
            self._template.train_step, self._tensors(), x, y, axis
        )
        examples = _examples(x, axis)
        lanes = _squares.LANES if examples in self._clusters else 1
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

    def _test_step(self, x: Any, y: Any) -> None:
        axis = self._axis_of(x)
        losses, metrics = vectorize.over_members(
            self._template.test_step, *self._tensors(), x, y, axes=(0, 0, 0, axis, axis)
        )
        self._add(losses, [], metrics, _examples(x, axis))

    def _tensors(self) -> tuple[list[Any], list[Any], list[Any]]:
        """The trainable, other and metric variables now."""
        trainable, other, metrics = (
            [ops.convert_to_tensor(variable.value) for variable in part]
            for part in (self.trainable, self._other, self._metrics)
        )
        return trainable, other, metrics

    def _axis_of(self, x: Any) -> int | None:
        """0 where each member has a batch of its own, None where one is for all."""
        return 0 if len(keras.tree.flatten(x)[0].shape) > self._template.rank else None

    def _add(self, losses: Any, other: Any, metrics: Any, examples: int, lanes: int = 1) -> None:
        """Adds a batch to the sums of the epoch, and keeps the new states."""
        for variable, value in zip([*self._other[: len(other)], *self._metrics],
                                   [*other, *metrics], strict=True):  # fmt: skip
            variable.assign(value)
        floatx = keras.config.floatx()
        data_loss, penalty = self._sums
        data_loss.assign_add(ops.cast(losses, floatx) * examples)
        if "penalty" in self._coefficients.used:
            penalty.assign_add(self._penalty(lanes) * examples)

    def _penalty(self, lanes: int) -> Any:
        """(lam / 2) * sum(W ** 2) of each member, shape (members,)."""
        norms = vectorize.half_squared_norms([v.value for v in self._decayed], lanes)
        return self._coefficients.lam("penalty") * norms


def _examples(x: Any, axis: int | None) -> int:
    """In a batch, or in that of each member."""
    return int(keras.tree.flatten(x)[0].shape[0 if axis is None else 1])
