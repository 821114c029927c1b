"""An optimizer's update, and what stands around it, as XLA clusters of a TensorFlow graph.

As graph operations an update with momentum and decay goes over the weights some five times; XLA
makes one pass of it. A large variable has a cluster of its own, so that its gradient can go before
the next one comes. A cluster is compiled when the step runs first; whether XLA has a form of all
that is in it is asked while the step is traced, before anything has run.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from l2keras._keras import optimizers

# Bytes from which on no cache holds a variable beside what its update needs: compiling, a tenth of
# a second, is made up for in a few hundred steps.
LARGE = 4e6

Update = Callable[[Sequence[Any], Any], None]  # (grads, learning_rate)

_logger = logging.getLogger("l2keras")


def applies(optimizer: Any) -> bool:
    """Whether updates are being traced into a TensorFlow graph that can be split into clusters.

    Variables that are made in this very trace have no value yet, and TensorFlow traces once more.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if tf.executing_eagerly() or optimizers.is_distributed(optimizer):
        return False
    if not optimizers.updates_each_alone(optimizer):
        return False
    with tf.init_scope():  # out of the graph that is being traced
        return all(variable.value.is_initialized() for variable in optimizer.variables)


def is_dense(gradient: Any) -> bool:
    """Whether the whole variable has a gradient, and not some of its rows."""
    import tensorflow as tf

    return isinstance(gradient, tf.Tensor)


def is_large(variable: Any) -> bool:
    """Whether a cluster of its own pays for this variable."""
    return size(variable) >= LARGE


def pays(variable: Any) -> bool:
    """Whether a cluster is chosen where none is asked for: for large variables, on a CPU."""
    import tensorflow as tf

    return is_large(variable) and not tf.config.list_logical_devices("GPU")


def size(variable: Any) -> int:
    """Its bytes."""
    width = np.dtype(keras.backend.standardize_dtype(variable.dtype)).itemsize
    return int(math.prod(variable.shape) * width)


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
