"""Rules that tf.vectorized_map lacks for operations that Keras uses, or has in part.

They are registered where TensorFlow registers its own, once in a process.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

# Run once for each member: convolutions with stacked filters, for which there is no kernel, and
# random numbers, so that each member has those that its seed gives it alone.
ONE_BY_ONE = (
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
    """Makes tf.vectorized_map know them; what it knows already stays where it applies."""
    rules: dict[str, Rule] = {"Bitcast": _bitcast, "L2Loss": _l2_loss}
    rules |= dict.fromkeys(ONE_BY_ONE, _one_by_one)
    registry: dict[str, Rule] = _pfor()._pfor_converter_registry
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
    (members,) = {wrapped.t.shape[0] for wrapped in inputs if wrapped.is_stacked}
    dtypes = [output.dtype for output in pfor_input.outputs]
    attributes = pfor_input.op.node_def.attr
    outputs = [
        pfor._create_op(
            pfor_input.op_type,
            [wrapped.t[i] if wrapped.is_stacked else wrapped.t for wrapped in inputs],
            dtypes,
            attrs=attributes,
        ).outputs
        for i in range(members)
    ]
    return [pfor.wrap(tf.stack(values), True) for values in zip(*outputs, strict=True)]


def _bitcast(pfor_input: Any) -> Any:
    import tensorflow as tf

    value = tf.bitcast(pfor_input.stacked_input(0), pfor_input.get_attr("type"))
    return _pfor().wrap(value, True)


def _l2_loss(pfor_input: Any) -> Any:
    import tensorflow as tf

    value = pfor_input.stacked_input(0)
    row = tf.reshape(value, (value.shape[0], 1, -1))
    return _pfor().wrap(0.5 * tf.matmul(row, row, transpose_b=True)[:, 0, 0], True)
