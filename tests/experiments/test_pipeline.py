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
    first, second = (pipeline.epoch_order(10, 5, seed=0, epoch=epoch) for epoch in (0, 1))
    assert first.shape == (2, 5)
    assert sorted(first.ravel()) == sorted(second.ravel()) == list(range(10))
    assert not np.array_equal(first, second)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    """The same seed and epoch give the same order, whatever was drawn before."""
    assert np.array_equal(pipeline.epoch_order(10, 3, 1, 5), pipeline.epoch_order(10, 3, 1, 5))
    assert not np.array_equal(pipeline.epoch_order(10, 3, 1, 5), pipeline.epoch_order(10, 3, 2, 5))


def test_a_last_batch_that_is_not_full_is_left_out() -> None:
    """Every batch has the same size; with fewer examples than that there is one batch of all."""
    for examples, shape in ((10, (2, 4)), (3, (1, 3))):
        assert pipeline.epoch_order(examples, 4, seed=0, epoch=0).shape == shape
        assert pipeline.steps_per_epoch(examples, 4) == shape[0]


def test_both_pipelines_give_the_same_batches(data: Dataset) -> None:
    """tf.data and the generator of the other backends yield the batches of the order."""
    epochs = range(2, 4)
    orders = [pipeline.epoch_order(10, 4, 0, epoch) for epoch in epochs]
    batches = pipeline._tensorflow_batches(data, 4, 0, epochs)
    from_tf = [(x.numpy(), y.numpy()) for x, y in batches]
    from_generator = list(pipeline._generate(data, 4, 0, epochs))
    assert len(from_tf) == len(from_generator) == 4
    for batches in (from_tf, from_generator):
        for (x, y), indices in zip(batches, np.concatenate(orders), strict=True):
            assert np.array_equal(x.ravel(), indices)
            assert np.array_equal(y, indices)
    chosen = list(pipeline.training_batches(data, 4, 0, epochs))
    assert [list(y) for _, y in chosen] == [list(y) for _, y in from_tf]


def test_the_autotuner_is_off(data: Dataset) -> None:
    """No dataset that `fit` sees has the autotuner that makes epochs wait."""
    training = pipeline.training_batches(data, 4, 0, range(1))
    for dataset in (training, pipeline.evaluation_data(data)):
        assert dataset.options().autotune.enabled is False


def test_evaluation_sees_the_whole_test_set(data: Dataset) -> None:
    """The evaluation batches hold every test example once, in order."""
    batches = list(pipeline.evaluation_data(data, batch_size=4))
    assert np.array_equal(np.concatenate([y for _, y in batches]), data.y_test)
