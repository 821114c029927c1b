"""The order of the batches, and how they reach `fit`."""

from __future__ import annotations

import numpy as np
import pytest

from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.data import batches
from l2keras_experiments.data.datasets import Dataset


@pytest.fixture
def data() -> Dataset:
    """Ten examples that carry their own index."""
    x = np.arange(10, dtype="float32").reshape(10, 1)
    y = np.arange(10, dtype="int32")
    return Dataset("toy", x, y, x + 50, y, None, None, "classification", 10)


def test_every_epoch_is_a_permutation() -> None:
    """Each epoch holds each example at most once, in an order of its own."""
    first, second = (batches.epoch_order(10, 5, seed=0, epoch=epoch) for epoch in (0, 1))
    assert first.shape == (2, 5)
    assert sorted(first.ravel()) == sorted(second.ravel()) == list(range(10))
    assert not np.array_equal(first, second)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    """The same seed and epoch give the same order, whatever was drawn before."""
    assert np.array_equal(batches.epoch_order(10, 3, 1, 5), batches.epoch_order(10, 3, 1, 5))
    assert not np.array_equal(batches.epoch_order(10, 3, 1, 5), batches.epoch_order(10, 3, 2, 5))


def test_a_last_batch_that_is_not_full_is_left_out() -> None:
    """Every batch has the same size; with fewer examples than that there is one batch of all."""
    for examples, shape in ((10, (2, 4)), (3, (1, 3))):
        assert batches.epoch_order(examples, 4, seed=0, epoch=0).shape == shape
        assert batches.steps_per_epoch(examples, 4) == shape[0]


def test_both_pipelines_give_the_same_batches(data: Dataset) -> None:
    """tf.data and the generator of the other backends yield the batches of the order."""
    epochs = range(2, 4)
    orders = [batches.epoch_order(10, 4, 0, epoch) for epoch in epochs]
    pairs = batches._tensorflow_batches(data, 4, 0, epochs)
    from_tf = [(x.numpy(), y.numpy()) for x, y in pairs]
    from_generator = list(batches._generate(data, 4, 0, epochs))
    assert len(from_tf) == len(from_generator) == 4
    for found in (from_tf, from_generator):
        for (x, y), indices in zip(found, np.concatenate(orders), strict=True):
            assert np.array_equal(x.ravel(), indices)
            assert np.array_equal(y, indices)
    chosen = list(batches.training_batches(data, 4, 0, epochs))
    assert [list(y) for _, y in chosen] == [list(y) for _, y in from_tf]


def test_the_autotuner_is_off(data: Dataset) -> None:
    """No dataset that `fit` sees has the autotuner that makes epochs wait."""
    training = batches.training_batches(data, 4, 0, range(1))
    for dataset in (training, batches.validation_data(data, batch_size=64)):
        assert dataset.options().autotune.enabled is False


def test_validation_sees_all_of_its_examples(data: Dataset) -> None:
    """The batches hold every validation example once, in order."""
    found = list(batches.validation_data(data, batch_size=4))
    assert [len(y) for _, y in found] == [4, 4, 2]
    assert np.array_equal(np.concatenate([y for _, y in found]), data.y_val)
    assert np.array_equal(np.concatenate([x for x, _ in found]), data.x_val)


@pytest.mark.parametrize(
    ("examples", "replicas", "expected"),
    [
        (239, 1, 2048),  # one device takes any size
        (240, 2, 240),  # halves of 120
        (239, 2, 236),  # 118 and 118, then 2 and 1; after 238 one of two would get none
        (5000, 3, 2046),  # 2046, 2046, 908
    ],
)
def test_replicas_share_the_first_batch_evenly(examples: int, replicas: int, expected: int) -> None:
    """Keras adds the parts of the first batch up, which only works for equal shapes."""
    assert batches.evaluation_batch(examples, replicas) == expected


def test_fewer_examples_than_replicas_are_refused() -> None:
    """Three examples for four devices raise with the remedy."""
    with pytest.raises(ConfigError, match=r"Received: 3 for 4 devices. Use distribute=none"):
        batches.evaluation_batch(3, 4)


def test_nested_inputs_stay_with_their_targets() -> None:
    """Both pipelines take the same rows of every array of a structure."""
    y = np.arange(10, dtype="int32")
    x = {"a": y.reshape(10, 1) + 100, "b": (y * 2, y * 3)}
    nested = Dataset("toy", x, y, x, y, None, None, "classification", 10)
    for found in (
        list(batches._tensorflow_batches(nested, 4, 0, range(1))),
        list(batches._generate(nested, 4, 0, range(1))),
        list(batches.validation_data(nested, batch_size=4)),
    ):
        assert found
        for inputs, targets in found:
            assert np.array_equal(np.ravel(inputs["a"]), np.asarray(targets) + 100)
            assert np.array_equal(inputs["b"][0], np.asarray(targets) * 2)
            assert np.array_equal(inputs["b"][1], np.asarray(targets) * 3)
