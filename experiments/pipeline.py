"""Batches for `fit`: the same order on every backend, and one iterator for a whole training.

The order is drawn from (seed, epoch) in NumPy, so that two arms of a comparison, or two
backends, see the same batches. On TensorFlow tf.data's autotuner is off: with it every epoch's
wall time is rounded up to 10 ms * (2^k - 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from experiments.data import Dataset


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Full batches in an epoch; the examples that do not fill another one are left out of it."""
    return num_examples // min(batch_size, num_examples)


def epoch_order(num_examples: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Example indices of an epoch, shape (steps, batch_size), int32: part of a permutation."""
    batch_size = min(batch_size, num_examples)
    steps = num_examples // batch_size
    order = np.random.default_rng([seed, epoch]).permutation(num_examples)
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


def training_batches(data: Dataset, batch_size: int, seed: int, epochs: range) -> Any:
    """What `fit(x=..., steps_per_epoch=...)` takes: (x, y) batches of all `epochs`."""
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_batches(data, batch_size, seed, epochs)
    return _generate(data, batch_size, seed, epochs)


def _generate(
    data: Dataset, batch_size: int, seed: int, epochs: range
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for epoch in epochs:
        for indices in epoch_order(len(data.x_train), batch_size, seed, epoch):
            yield data.x_train[indices], data.y_train[indices]


def _tensorflow_batches(data: Dataset, batch_size: int, seed: int, epochs: range) -> Any:
    import tensorflow as tf

    x, y = tf.constant(data.x_train), tf.constant(data.y_train)
    examples = len(data.x_train)
    width = min(batch_size, examples)

    def order(epoch: Any) -> Any:
        def draw(number: Any) -> np.ndarray:
            return epoch_order(examples, batch_size, seed, int(number))

        drawn = tf.numpy_function(draw, [epoch], tf.int32)  # Python is asked once an epoch
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(drawn, (None, width)))

    def gather(indices: Any) -> tuple[Any, Any]:
        return tf.gather(x, indices), tf.gather(y, indices)

    numbers = tf.data.Dataset.range(epochs.start, epochs.stop)
    return numbers.flat_map(order).map(gather).prefetch(4).with_options(_options())


def evaluation_data(data: Dataset, batch_size: int = 2048) -> Any:
    """What `fit(validation_data=...)` takes: the test set in large batches."""
    if keras.backend.backend() != "tensorflow":
        return data.x_test, data.y_test
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensor_slices((data.x_test, data.y_test)).batch(batch_size)
    # cache() keeps the batches, so that later epochs neither slice nor copy.
    return batches.cache().with_options(_options())


def _options() -> Any:
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return options
