"""The examples of runs that are trained at once, and which of them each run sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from experiments import pipeline
from experiments.data import Dataset, load_data
from experiments.schema import Config
from l2keras._sweep import evaluation
from l2keras._sweep.feed import Feed
from l2keras._sweep.members import Member


class Datasets:
    """The examples of all runs, one after another; the same ones once."""

    def __init__(self, configs: Sequence[Config]) -> None:
        drawn = any(c.data.label_noise or c.data.name == "teacher_student" for c in configs)
        self._key: Callable[[int], int] = (lambda seed: seed) if drawn else (lambda seed: 0)
        self._sets: dict[int, Dataset] = {}
        for config in configs:
            key = self._key(config.seed)
            if key not in self._sets:
                dtype = config.training.dtype.value
                self._sets[key] = load_data(config.data, config.seed, dtype)
        sets = list(self._sets.values())
        self._place = {key: i for i, key in enumerate(self._sets)}
        self.train = _joined([d.x_train for d in sets]), _joined([d.y_train for d in sets])
        self._one_test = all(np.array_equal(d.y_test, sets[0].y_test) for d in sets) and all(
            np.array_equal(d.x_test, sets[0].x_test) for d in sets
        )
        tests = sets[:1] if self._one_test else sets
        self.test = _joined([d.x_test for d in tests]), _joined([d.y_test for d in tests])
        self._num_train, self._num_test = len(sets[0].x_train), len(sets[0].x_test)

    def of(self, config: Config) -> Dataset:
        return self._sets[self._key(config.seed)]

    def training_feed(self, batch_size: int) -> Feed:
        def order(member: Member, epoch: int) -> np.ndarray:
            rows = pipeline.epoch_order(self._num_train, batch_size, member.seed, epoch)
            return rows.reshape(-1) + self._place[self._key(member.seed)] * self._num_train

        return Feed(*self.train, order, lambda m: m.seed, batch_size, drop_remainder=True)

    def test_feed(self, batch_size: int) -> Feed:
        def place(member: Member) -> int:
            return 0 if self._one_test else self._place[self._key(member.seed)]

        def order(member: Member, epoch: int) -> np.ndarray:
            return np.arange(self._num_test) + place(member) * self._num_test

        width = evaluation.widest(batch_size, self._num_test)
        return Feed(*self.test, order, place, width)


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
