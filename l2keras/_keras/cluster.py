"""An optimizer's update, and what stands around it, as XLA clusters of a TensorFlow graph.

As graph operations an update with momentum and decay goes over the weights some five times; XLA
makes one pass of it. A large variable has a cluster of its own, so that its gradient can go before
the next one comes. A cluster is compiled when the step runs first; whether XLA has a form of all
that is in it is asked while the step is traced, before anything has run.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from l2keras._keras import inner_functions, optimizers

# Bytes from which on no cache holds a variable beside what its update needs: compiling, a tenth of
# a second, is made up for in a few hundred steps.
LARGE = 4e6

# In the names of operations: XLA draws other random numbers than TensorFlow does, and leaves out
# checks. The few that only quantize or normalize, and are named so too, stay plain as well.
_OTHERWISE = ("Random", "Normal", "Uniform", "Multinomial", "Assert", "CheckNumerics")

Update = Callable[[Sequence[Any], Any], None]  # (grads, learning_rate)

_logger = logging.getLogger("l2keras")


def applies(optimizer: Any) -> bool:
    """Whether updates are being traced into a TensorFlow graph that can be split into clusters.

    Variables that are made in this very trace have no value yet, and TensorFlow traces once more.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if tf.executing_eagerly() or tf.distribute.has_strategy():
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


def pays(optimizer: Any, variable: Any) -> bool:
    """Whether a cluster is chosen where none is asked for: for large variables, on a CPU.

    An optimizer that is not Keras' may rely on what TensorFlow does with its operations.
    """
    import tensorflow as tf

    of_keras = type(optimizer).__module__.split(".")[0] == "keras"
    return of_keras and is_large(variable) and not tf.config.list_logical_devices("GPU")


def size(variable: Any) -> int:
    """Its bytes."""
    width = np.dtype(keras.backend.standardize_dtype(variable.dtype)).itemsize
    return int(math.prod(variable.shape) * width)


def run(update: Update, grads: Sequence[Any], learning_rate: Any) -> None:
    """Runs `update(grads, learning_rate)` as a cluster, or as it is if XLA does not do the same."""
    import tensorflow as tf

    def cluster(learning_rate: Any, *grads: Any) -> None:
        with inner_functions.step():  # a function of ours, made for this trace
            update(grads, learning_rate)

    arguments = [tf.convert_to_tensor(learning_rate), *grads]
    specs = [tf.TensorSpec(argument.shape, argument.dtype) for argument in arguments]
    function = tf.function(cluster, jit_compile=True, autograph=False)
    if find_obstacle(function, specs):
        update(grads, learning_rate)
    else:
        function(*arguments)


def find_obstacle(
    function: Any, specs: Sequence[Any], rehearse: Callable[[], Any] | None = None
) -> str | None:
    """What keeps `function` from doing the same when XLA compiles it, logged; None if nothing does.

    Args:
        function: A `tf.function(jit_compile=True)`.
        specs: What it is traced with.
        rehearse: Calls it so that it changes nothing; it is compiled by that. Without, XLA is only
            asked for the form that it would compile.
    """
    obstacle = _obstacle(function, specs, rehearse)
    if obstacle:
        _logger.info("Not compiled as a cluster: %s", obstacle)
    return obstacle


def _obstacle(
    function: Any, specs: Sequence[Any], rehearse: Callable[[], Any] | None
) -> str | None:
    import tensorflow as tf

    with tf.init_scope(), warnings.catch_warnings():
        # Without a device_name TensorFlow draws a random number to find one out.
        warnings.filterwarnings("ignore", "device_name is being deprecated")
        try:
            graph = function.get_concrete_function(*specs).graph
            for name in sorted(_operations(graph)):
                if any(word in name for word in _OTHERWISE):
                    return f"XLA does otherwise with {name}"
            if rehearse is not None:
                rehearse()
            else:
                lowered = function.experimental_get_compiler_ir(*specs)
                lowered(stage="hlo", device_name=tf.zeros(()).device)
        except Exception as error:  # of whatever kind: the plain form raises what is an error there
            return f"{type(error).__name__}: {error}".partition("\n")[0]
    return None


def _operations(graph: Any) -> set[str]:
    """The types of operations in a graph and in its functions."""
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    return {node.op for node in nodes}
