"""The examples, and which of them each member sees in which step."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from l2keras._sweep.members import Member


def shuffled(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """The order of the examples in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(num_examples)


@dataclass(frozen=True, eq=False)
class Feed:
    """Examples, and the order in which they come.

    Attributes:
        x, y: Arrays, or nested structures of arrays, with the examples along the first axis.
        order: (member, epoch) -> int array of example numbers, as many for every member.
        stream: member -> a key; members of one key see the same batches.
        batch_size: Examples in a step.
        drop_remainder: Whether the examples that fill no further batch are left out.
    """

    x: Any
    y: Any
    order: Callable[[Member, int], np.ndarray]
    stream: Callable[[Member], Hashable]
    batch_size: int
    drop_remainder: bool = False

    def steps(self, num_examples: int) -> dict[int, int]:
        """How many steps an epoch of so many examples has with batches of each size."""
        width = min(self.batch_size, num_examples)
        full, rest = divmod(num_examples, width)
        return {width: full, **({rest: 1} if rest and not self.drop_remainder else {})}

    def batches(self, members: Sequence[Member], epoch: int) -> list[np.ndarray]:
        """Full batches, then the remainder if there is one; see `Group.fit`."""
        streams = {self.stream(member): member for member in members}
        drawn = {key: self.order(member, epoch) for key, member in streams.items()}
        if len(drawn) == 1:
            return self._cut(next(iter(drawn.values())).astype(np.int32))
        rows = np.stack([drawn[self.stream(member)] for member in members])
        return self._cut(rows.astype(np.int32))

    def _cut(self, rows: np.ndarray) -> list[np.ndarray]:
        """(..., examples) -> (steps, ..., batch)."""
        batches, start = [], 0
        for width, steps in self.steps(rows.shape[-1]).items():
            part = rows[..., start : start + steps * width]
            part = part.reshape(*rows.shape[:-1], steps, width)
            batches.append(np.ascontiguousarray(np.moveaxis(part, -2, 0)))
            start += steps * width
        return batches


def number_of_examples(x: Any) -> int:
    return int(keras.tree.flatten(x)[0].shape[0])
