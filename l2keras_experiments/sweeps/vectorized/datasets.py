"""The examples of runs that are trained at once, and which of them each run sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from l2keras_experiments.config import targets
from l2keras_experiments.config.schema import Config, DataConfig
from l2keras_experiments.data import batches
from l2keras_experiments.data.datasets import Dataset, load_data
from l2keras_experiments.library import Feed, Member, widest


class Datasets:
    """The examples of all runs, one after another; the same ones once.

    Attributes:
        train: x and y of all training examples.
        evaluation: x and y of all validation examples, then of all test examples.
    """

    def __init__(self, configs: Sequence[Config]) -> None:
        self._by_seed = _depends_on_seed(configs[0].data)
        self._sets: dict[int, Dataset] = {}
        for config in configs:
            key = self._key(config.seed)
            if key not in self._sets:
                dtype = config.training.dtype.value
                self._sets[key] = load_data(config.data, config.seed, dtype)
        sets = list(self._sets.values())
        first = sets[0]
        self._place = {key: i for i, key in enumerate(self._sets)}
        self.train = _joined([(d.x_train, d.y_train) for d in sets])
        self._is_shared = all(_equal(d, first) for d in sets)
        measured = sets[:1] if self._is_shared else sets
        validation = [(d.x_val, d.y_val) for d in measured]
        test = [(d.x_test, d.y_test) for d in measured if d.y_test is not None]
        self.evaluation = _joined([*validation, *test])
        self._num_train, self._num_val = first.num_train, len(first.y_val)
        self._num_test = 0 if first.y_test is None else len(first.y_test)
        self._first_test = len(measured) * self._num_val

    def _key(self, seed: int) -> int:
        return seed if self._by_seed else 0

    def of(self, config: Config) -> Dataset:
        return self._sets[self._key(config.seed)]

    def training_feed(self, batch_size: int) -> Feed:
        def order(member: Member, epoch: int) -> np.ndarray:
            rows = batches.epoch_order(self._num_train, batch_size, member.seed, epoch)
            return rows.reshape(-1) + self._place[self._key(member.seed)] * self._num_train

        return Feed(*self.train, order, lambda m: m.seed, batch_size, drop_remainder=True)

    def validation_feed(self, batch_size: int) -> Feed:
        """The validation examples, in `evaluation`."""
        return self._evaluation_feed(batch_size, 0, self._num_val)

    def test_feed(self, batch_size: int) -> Feed | None:
        """The test examples, in `evaluation`; None without any."""
        if not self._num_test:
            return None
        return self._evaluation_feed(batch_size, self._first_test, self._num_test)

    def _evaluation_feed(self, batch_size: int, first: int, number: int) -> Feed:
        def place(member: Member) -> int:
            return 0 if self._is_shared else self._place[self._key(member.seed)]

        def order(member: Member, epoch: int) -> np.ndarray:
            return np.arange(number) + first + place(member) * number

        return Feed(*self.evaluation, order, place, widest(batch_size, number))


def _depends_on_seed(config: DataConfig) -> bool:
    """Whether the data may differ between seeds: where that cannot be read, they may."""
    accepted = targets.accepted(config.target)
    return bool(config.label_noise) or not accepted or "seed" in accepted


def _equal(one: Dataset, other: Dataset) -> bool:
    """Whether what is measured on is the same."""
    arrays = zip(
        keras.tree.flatten((one.x_val, one.y_val, one.x_test, one.y_test)),
        keras.tree.flatten((other.x_val, other.y_val, other.x_test, other.y_test)),
        strict=True,
    )
    return all(a is b or np.array_equal(a, b) for a, b in arrays)


def _joined(pairs: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Pairs of x and y, one after another."""
    if len(pairs) == 1:
        return pairs[0]
    joined: tuple[Any, Any] = keras.tree.map_structure(
        lambda *arrays: np.concatenate(arrays), *pairs
    )
    return joined
