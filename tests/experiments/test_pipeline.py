"""The order of the batches, and how they reach `fit`."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import pipeline
from experiments.data import Dataset


@pytest.fixture
def data() -> Dataset:
    """Ten examples that carry their own index."""
    x = np.arange(10, dtype="float32").reshape(10, 1)
    y = np.arange(10, dtype="int32")
    return Dataset("toy", x, y, x, y, "classification", "features", 10)


def test_every_epoch_is_a_permutation() -> None:
    """Each epoch holds each example at most once, in an order of its own."""
    order = pipeline.batch_order(10, 5, epochs=3, seed=0)
    assert order.shape == (3, 2, 5)
    for epoch in order:
        assert sorted(epoch.ravel()) == list(range(10))
    assert not np.array_equal(order[0], order[1])


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    """The same seed gives the same order, and a longer run begins like a shorter one."""
    order = pipeline.batch_order(10, 3, epochs=2, seed=1)
    assert np.array_equal(order, pipeline.batch_order(10, 3, epochs=4, seed=1)[:2])
    assert not np.array_equal(order, pipeline.batch_order(10, 3, epochs=2, seed=2))


def test_a_last_batch_that_is_not_full_is_left_out() -> None:
    """Every batch has the same size; with fewer examples than that there is one batch of all."""
    assert pipeline.batch_order(10, 4, epochs=1, seed=0).shape == (1, 2, 4)
    assert pipeline.batch_order(3, 4, epochs=1, seed=0).shape == (1, 1, 3)


def test_both_pipelines_give_the_same_batches(data: Dataset) -> None:
    """tf.data and the generator of the other backends yield the batches of the order."""
    order = pipeline.batch_order(10, 4, epochs=2, seed=0)
    flat = order.reshape(-1, 4)
    from_tf = [(x.numpy(), y.numpy()) for x, y in pipeline._tensorflow_batches(data, flat)]
    from_generator = list(pipeline._generate(data, flat))
    assert len(from_tf) == len(from_generator) == 4
    for batches in (from_tf, from_generator):
        for (x, y), indices in zip(batches, flat, strict=True):
            assert np.array_equal(x[:, 0], indices)
            assert np.array_equal(y, indices)


def test_the_autotuner_is_off(data: Dataset) -> None:
    """No dataset that `fit` sees has the autotuner that makes epochs wait."""
    order = pipeline.batch_order(10, 4, epochs=1, seed=0)
    for dataset in (pipeline.training_batches(data, order), pipeline.evaluation_data(data)):
        assert dataset.options().autotune.enabled is False


def test_evaluation_sees_the_whole_test_set(data: Dataset) -> None:
    """The evaluation batches hold every test example once, in order."""
    batches = list(pipeline.evaluation_data(data, batch_size=4))
    assert np.array_equal(np.concatenate([y for _, y in batches]), data.y_test)
