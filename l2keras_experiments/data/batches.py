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

from l2keras_experiments.config.schema import ConfigError, TrainingConfig
from l2keras_experiments.data.datasets import Dataset, map_arrays, rows
from l2keras_experiments.data.streams import StreamDataset

EVALUATION_BATCH = 2048


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Full batches in an epoch; the examples that do not fill another one are left out of it."""
    return num_examples // min(batch_size, num_examples)


def epoch_order(num_examples: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Example indices of an epoch, shape (steps, batch_size), int32: part of a permutation."""
    batch_size = min(batch_size, num_examples)
    steps = num_examples // batch_size
    order = np.random.default_rng([seed, epoch]).permutation(num_examples)
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


def sizes(data: Dataset | StreamDataset, training: TrainingConfig) -> tuple[int, int]:
    """Returns the steps in an epoch and the examples in a step.

    Raises:
        ConfigError: the data come in batches of another size.
    """
    if isinstance(data, StreamDataset):
        data.check_training(training)
        return data.num_batches["train"], data.batch_size
    batch_size = min(training.batch_size, data.num_train)
    return steps_per_epoch(data.num_train, batch_size), batch_size


def evaluation_batch(num_examples: int, num_replicas: int) -> int:
    """The examples in a batch of validation or test.

    TensorFlow's replicas share the first batch evenly, because Keras adds up their parts of it
    (`_maybe_symbolic_build`). They share the last one, too, if some size allows that: not every
    layer takes an empty batch.

    Raises:
        ConfigError: there are more replicas than examples.
    """
    if num_examples < num_replicas:
        raise ConfigError(
            "Validation and test need an example for each device that shares a batch. "
            f"Received: {num_examples} for {num_replicas} devices. Use distribute=none, or a "
            "larger part of the data."
        )
    size = EVALUATION_BATCH if num_replicas == 1 else min(EVALUATION_BATCH, num_examples)
    size -= size % num_replicas
    while 0 < num_examples % size < num_replicas < size:
        size -= num_replicas
    return size


def fit_arguments(
    data: Dataset | StreamDataset,
    batch_size: int,
    seed: int,
    epochs: range,
    num_replicas: int,
) -> dict[str, Any]:
    """Returns what `fit` takes for `epochs`: batches to train on, and the validation data."""
    if isinstance(data, StreamDataset):
        return {"x": data.streams["train"], "validation_data": data.streams["validation"]}
    size = evaluation_batch(len(data.y_val), num_replicas)
    if data.y_test is not None:  # which would raise after the training
        evaluation_batch(len(data.y_test), num_replicas)
    return {
        "x": training_batches(data, batch_size, seed, epochs),
        "steps_per_epoch": steps_per_epoch(data.num_train, batch_size),
        "validation_data": validation_data(data, size),
        "validation_batch_size": size,
    }


def test_arguments(data: Dataset | StreamDataset, num_replicas: int) -> dict[str, Any] | None:
    """Returns what `evaluate` takes for the test part; None without one."""
    if isinstance(data, StreamDataset):
        return {"x": data.streams["test"]} if "test" in data.streams else None
    if data.y_test is None:
        return None
    size = evaluation_batch(len(data.y_test), num_replicas)
    return {"x": data.x_test, "y": data.y_test, "batch_size": size}


def training_batches(data: Dataset, batch_size: int, seed: int, epochs: range) -> Any:
    """What `fit(x=..., steps_per_epoch=...)` takes: (x, y) batches of all `epochs`."""
    if keras.backend.backend() == "tensorflow":
        return _tensorflow_batches(data, batch_size, seed, epochs)
    return _generate(data, batch_size, seed, epochs)


def _generate(
    data: Dataset, batch_size: int, seed: int, epochs: range
) -> Iterator[tuple[Any, np.ndarray]]:
    for epoch in epochs:
        for indices in epoch_order(data.num_train, batch_size, seed, epoch):
            yield rows(data.x_train, indices), data.y_train[indices]


def _tensorflow_batches(data: Dataset, batch_size: int, seed: int, epochs: range) -> Any:
    import tensorflow as tf

    x, y = map_arrays(tf.constant, data.x_train), tf.constant(data.y_train)
    examples = data.num_train
    width = min(batch_size, examples)

    def order(epoch: Any) -> Any:
        def draw(number: Any) -> np.ndarray:
            return epoch_order(examples, batch_size, seed, int(number))

        drawn = tf.numpy_function(draw, [epoch], tf.int32)  # Python is asked once an epoch
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(drawn, (None, width)))

    def gather(indices: Any) -> tuple[Any, Any]:
        return map_arrays(lambda array: tf.gather(array, indices), x), tf.gather(y, indices)

    numbers = tf.data.Dataset.range(epochs.start, epochs.stop)
    return numbers.flat_map(order).map(gather).prefetch(4).with_options(_options())


def validation_data(data: Dataset, batch_size: int) -> Any:
    """What `fit(validation_data=...)` takes: the validation examples in large batches."""
    if keras.backend.backend() != "tensorflow":
        return data.x_val, data.y_val
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensor_slices((data.x_val, data.y_val)).batch(batch_size)
    # cache() keeps the batches, so that later epochs neither slice nor copy.
    return batches.cache().with_options(_options())


def _options() -> Any:
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return options
