"""Whether TensorFlow is tracing for XLA."""

from __future__ import annotations

import importlib


def is_under_xla() -> bool:
    """Whether what is being traced will be compiled by XLA."""
    import tensorflow as tf

    if tf.executing_eagerly():
        return False
    control_flow = importlib.import_module("tensorflow.python.ops.control_flow_util")
    return bool(control_flow.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))
