"""An optimizer's update, and what stands around it, as one XLA cluster of a TensorFlow graph.

As graph operations an update with momentum and decay goes over the weights some five times; XLA
makes one pass of it. The function is compiled when the step runs first; whether XLA has a form of
all that is in it is asked while the step is traced, before anything has run.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from l2keras._keras import optimizers

# Compiling takes longer the more variables there are; it saves passes over those that no cache
# holds. With 16 MB and more in variables of 4 MB and more, a few hundred steps make up for it.
LARGE_VARIABLE = 4e6
BYTES_THAT_PAY = 16e6

Update = Callable[[Sequence[Any], Any], None]  # (grads, learning_rate)

_logger = logging.getLogger("l2keras")


def applies(optimizer: Any, grads: Sequence[Any], variables: Sequence[Any]) -> bool:
    """Whether this update can be a cluster: in a TensorFlow graph, dense, on one device.

    Variables that are made in this very trace have no value yet, and TensorFlow traces once more.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if tf.executing_eagerly() or optimizers.is_distributed(optimizer):
        return False
    if not all(isinstance(grad, tf.Tensor) for grad in grads):
        return False
    with tf.init_scope():  # out of the graph that is being traced
        return all(v.value.is_initialized() for v in [*optimizer.variables, *variables])


def pays(variables: Sequence[Any]) -> bool:
    """Whether compiling an update of `variables` is soon made up for: large ones, on a CPU."""
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        return False
    sizes = [_bytes(variable) for variable in variables]
    return sum(size for size in sizes if size >= LARGE_VARIABLE) >= BYTES_THAT_PAY


def run(update: Update, grads: Sequence[Any], learning_rate: Any) -> None:
    """Runs `update(grads, learning_rate)` as a cluster; as it is, where XLA has no form of it."""
    import tensorflow as tf

    def cluster(learning_rate: Any, *grads: Any) -> None:
        update(grads, learning_rate)

    arguments = [tf.convert_to_tensor(learning_rate), *grads]
    compiled = tf.function(cluster, jit_compile=True, autograph=False)
    if has_form(compiled, arguments):
        compiled(*arguments)
    else:
        update(grads, learning_rate)


def has_form(function: Any, arguments: Sequence[Any]) -> bool:
    """Whether XLA can compile all that `function` does with tensors like `arguments`."""
    import tensorflow as tf

    specs = [tf.TensorSpec(argument.shape, argument.dtype) for argument in arguments]
    try:
        with tf.init_scope():
            function.experimental_get_compiler_ir(*specs)(stage="hlo")
    except (ValueError, tf.errors.OpError) as error:
        _logger.info("An update is not compiled as one cluster: %s", error)
        return False
    return True


def _bytes(variable: Any) -> int:
    width = np.dtype(keras.backend.standardize_dtype(variable.dtype)).itemsize
    return int(math.prod(variable.shape) * width)
