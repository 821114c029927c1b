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


def batch_order(num_examples: int, batch_size: int, epochs: int, seed: int) -> np.ndarray:
    """Example indices, shape (epochs, steps, batch_size), int32; each epoch a permutation.

    The examples that do not fill a last batch are left out of that epoch.
    """
    batch_size = min(batch_size, num_examples)
    steps = num_examples // batch_size
    orders = [np.random.default_rng([seed, e]).permutation(num_examples) for e in range(epochs)]
    cut = np.stack([order[: steps * batch_size] for order in orders])
    return cut.reshape(epochs, steps, batch_size).astype(np.int32)


def training_batches(data: Dataset, order: np.ndarray) -> Any:
    """What `fit(x=..., steps_per_epoch=order.shape[1])` takes: (x, y) batches of all epochs."""
    flat = order.reshape(-1, order.shape[-1])
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_batches(data, flat)
    return _generate(data, flat)


def _generate(data: Dataset, flat: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for indices in flat:
        yield data.x_train[indices], data.y_train[indices]


def _tensorflow_batches(data: Dataset, flat: np.ndarray) -> Any:
    import tensorflow as tf

    x, y = tf.constant(data.x_train), tf.constant(data.y_train)

    def gather(indices: Any) -> tuple[Any, Any]:
        return tf.gather(x, indices), tf.gather(y, indices)

    batches = tf.data.Dataset.from_tensor_slices(flat).map(gather).prefetch(4)
    return batches.with_options(_options())


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
