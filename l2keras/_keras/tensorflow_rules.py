"""Rules that tf.vectorized_map lacks for operations that Keras uses, or has in part.

They are registered where TensorFlow registers its own, once in a process.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

# Run once for each member: convolutions with stacked filters, for which there is no kernel; random
# numbers, so that each member has those that its seed gives it alone; and what Keras' layers for
# images and its metrics use beside, which TensorFlow has no rule for.
ONE_BY_ONE = (
    "ImageProjectiveTransformV3",
    "InTopKV2",
    "ResizeBicubic",
    "ResizeBicubicGrad",
    "ResizeBilinear",
    "ResizeBilinearGrad",
    "ResizeNearestNeighbor",
    "ResizeNearestNeighborGrad",
    "ScatterNd",
    "Conv2D",
    "Conv2DBackpropInput",
    "Conv3D",
    "Conv3DBackpropInputV2",
    "DepthwiseConv2dNative",
    "StatelessRandomGetKeyCounter",
    "StatelessRandomNormalV2",
    "StatelessRandomUniformFullIntV2",
    "StatelessRandomUniformIntV2",
    "StatelessRandomUniformV2",
    "StatelessTruncatedNormalV2",
)

Rule = Callable[[Any], Any]


@functools.cache
def register() -> None:
    """Makes tf.vectorized_map know them; what it knows already means the same as before."""
    rules: dict[str, Rule] = {"Bitcast": _bitcast, "L2Loss": _l2_loss}
    rules |= dict.fromkeys(ONE_BY_ONE, _one_by_one)
    registry: dict[str, Rule] = _pfor()._pfor_converter_registry
    registry.pop("DepthwiseConv2dNative", None)  # which takes stacked filters only
    for name, rule in rules.items():
        registry[name] = _either(registry[name], rule) if name in registry else rule


def _pfor() -> Any:
    return importlib.import_module("tensorflow.python.ops.parallel_for.pfor")


def _either(own: Rule, rule: Rule) -> Rule:
    """TensorFlow's rule, which for convolutions takes the same filters for all; else ours."""

    def choose(pfor_input: Any) -> Any:
        if any(wrapped.is_stacked for wrapped in pfor_input.inputs[1:]):
            return rule(pfor_input)
        return own(pfor_input)

    return choose


def _one_by_one(pfor_input: Any) -> Any:
    import tensorflow as tf

    pfor = _pfor()
    inputs = pfor_input.inputs
    dtypes = [output.dtype for output in pfor_input.outputs]

    def one(own: Sequence[Any]) -> Any:
        parts = iter(own)
        values = [next(parts) if wrapped.is_stacked else wrapped.t for wrapped in inputs]
        attributes = pfor_input.op.node_def.attr
        return pfor._create_op(pfor_input.op_type, values, dtypes, attrs=attributes).outputs

    stacks = [wrapped.t for wrapped in inputs if wrapped.is_stacked]
    members = tf.get_static_value(pfor_input.pfor.loop_len_vector)
    if members is None:  # inside of a loop, such as that of a recurrent layer
        outputs = tf.map_fn(one, stacks, fn_output_signature=dtypes)
    else:
        ones = [one([stack[i] for stack in stacks]) for i in range(int(members[0]))]
        outputs = [tf.stack(values) for values in zip(*ones, strict=True)]
    return [pfor.wrap(values, True) for values in outputs]


def _bitcast(pfor_input: Any) -> Any:
    import tensorflow as tf

    value = tf.bitcast(pfor_input.stacked_input(0), pfor_input.get_attr("type"))
    return _pfor().wrap(value, True)


def _l2_loss(pfor_input: Any) -> Any:
    import tensorflow as tf

    value = pfor_input.stacked_input(0)
    row = tf.reshape(value, (value.shape[0], 1, -1))
    return _pfor().wrap(0.5 * tf.matmul(row, row, transpose_b=True)[:, 0, 0], True)
