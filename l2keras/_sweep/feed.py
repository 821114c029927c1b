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
        width = min(self.batch_size, rows.shape[-1])
        steps = rows.shape[-1] // width
        full = rows[..., : steps * width].reshape(*rows.shape[:-1], steps, width)
        batches = [np.ascontiguousarray(np.moveaxis(full, -2, 0))]
        rest = rows[..., steps * width :]
        if rest.shape[-1] and not self.drop_remainder:
            batches.append(rest[np.newaxis])
        return batches


def number_of_examples(x: Any) -> int:
    return int(keras.tree.flatten(x)[0].shape[0])
