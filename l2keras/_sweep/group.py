"""A group of members, trained at once: one stack of weights, or several side by side."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from itertools import chain
from typing import Any

import keras
import numpy as np
from keras import ops

from l2keras._keras import optimizers
from l2keras._sweep import interrupts, loops, programs, stacking, vectorize
from l2keras._sweep.members import Member, State
from l2keras._sweep.stack import Stack
from l2keras._sweep.template import Template


class Group:
    """Members over the variables of a template. Loaded with one set after another.

    Args:
        template: The model that they share.
        optimizer: A Keras optimizer; its copy steps the stacked variables.
        members: All members of the sweep.
        size: How many there must be room for.
        decayed: Which of `template.trainable` decay applies to.
        train, test: (x, y) of all examples; `test` may be None.
        clusters: The batch sizes whose training steps XLA compiles, see `loops.Loop`.

    Attributes:
        size: How many there is room for: as many in each stack.
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
        self._model, self._clusters = template.model, clusters
        self._each = self.stack_size(size)
        stacks = math.ceil(size / self._each)
        self.size = self._each * stacks
        self._stacks = [
            Stack(template, optimizer, members, size=self._each, decayed=decayed, clusters=clusters)
            for _ in range(stacks)
        ]
        first = self._stacks[0]
        apart = stacking.steps_apart(template.model)
        self._fit = loops.Loop(
            first.train_step,
            [stack.variables for stack in self._stacks],
            *train,
            clusters=clusters,
            apart=apart,
        )
        fixed = [stack.fixed for stack in self._stacks]
        self._evaluate = (
            None if test is None else loops.Loop(first.test_step, fixed, *test, apart=apart)
        )
        self._names = [*template.metric_names, "data_loss", "penalty"]
        self._begin_epoch = loops.one_call(self._begin_epoch_of_each)
        self._collected = loops.compiled(functools.partial(_collect, template))
        self._prepared = False

    def stack_size(self, size: int) -> int:
        """Of a group for `size` members: time goes by it, as stacks run side by side."""
        return stacking.stack_size(self._model, size, self._clusters)

    def load(self, members: Sequence[Member], states: Sequence[State]) -> None:
        """Begins with these members, `size` of them, where their states are."""
        for number, stack in enumerate(self._stacks):
            own = slice(number * self._each, (number + 1) * self._each)
            stack.load(members[own], states[own])

    def states(self) -> list[State]:
        """The members where they are now."""
        return list(chain.from_iterable(stack.states() for stack in self._stacks))

    def final_states(self) -> list[State]:
        """The members as `fit` would leave them now: with averaged weights, if it averages."""
        return list(chain.from_iterable(stack.final_states() for stack in self._stacks))

    @property
    def num_programs(self) -> int:
        """How many steps have been compiled by now."""
        return self._fit.num_programs + (self._evaluate.num_programs if self._evaluate else 0)

    def prepare(self, test_batches: Sequence[np.ndarray]) -> None:
        """Traces what else only comes after the first epoch, so that it is refused before.

        Raises:
            NotVectorizedError: the evaluation, or the result of a metric.
        """
        if self._prepared or self._each == 1:  # one alone is not vectorized
            return
        self._prepared = True
        self._begin_epoch()
        if self._evaluate is not None:
            self._evaluate.trace(test_batches[0][: programs.CHUNK])
        loops.trace(self._collected, [stack.collected for stack in self._stacks])

    def fit(self, batches: Sequence[np.ndarray], pool: Executor) -> dict[str, np.ndarray]:
        """One epoch, and its metrics as `fit` logs them, each of shape (members,).

        Args:
            batches: int32 arrays of example numbers, shape (steps, batch) where all members see
                the same, else (steps, members, batch); of one batch size each.
            pool: Where the stacks run, see `loops.threads`.
        """
        first = self._stacks[0]  # with which the steps are traced
        with optimizers.hooked([first.optimizer], first.hook):
            return self._run(self._fit, batches, pool)

    def evaluate(self, batches: Sequence[np.ndarray], pool: Executor) -> dict[str, np.ndarray]:
        """The metrics on the test examples, as `fit` logs them for `validation_data`."""
        assert self._evaluate is not None
        logs = self._run(self._evaluate, batches, pool)
        return {f"val_{name}": values for name, values in logs.items()}

    def _run(
        self, loop: loops.Loop, batches: Sequence[np.ndarray], pool: Executor
    ) -> dict[str, np.ndarray]:
        self._begin_epoch()
        chunk = 1 if keras.backend.backend() == "torch" else programs.CHUNK
        for indices in batches:
            for start in range(0, len(indices), chunk):
                loop(indices[start : start + chunk], pool)
                interrupts.raise_if_heard()
        examples = sum(indices.shape[0] * indices.shape[-1] for indices in batches)
        collected = self._collected([stack.collected for stack in self._stacks])
        logs = {name: np.array(ops.convert_to_numpy(collected[name])) for name in self._names}
        logs |= {name: logs[name] / examples for name in ("data_loss", "penalty")}
        return {"loss": logs["data_loss"] + logs["penalty"], **logs}

    def _begin_epoch_of_each(self) -> None:
        for stack in self._stacks:
            stack.begin_epoch()


def _collect(template: Template, stacks: Sequence[tuple[list[Any], Any]]) -> dict[str, Any]:
    """Results of the metrics, and sums, of all members, from each stack's `collected`."""
    metrics = [own for own, _ in stacks if own]
    if metrics and metrics[0][0].shape[0] > 1:  # else each is alone, and not vectorized
        metrics = [[ops.concatenate(parts) for parts in zip(*metrics, strict=True)]]
    results = [vectorize.over_members(template.metric_results, own, axes=(0,)) for own in metrics]
    joined = {name: ops.concatenate([one[name] for one in results]) for one in results[:1]
              for name in one}  # fmt: skip
    sums = ops.concatenate([own for _, own in stacks], axis=1)
    return {**joined, "data_loss": sums[0], "penalty": sums[1]}
