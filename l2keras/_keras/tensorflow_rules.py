"""Rules that tf.vectorized_map lacks for operations that Keras uses, has in part, or has slower.

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

NARROW = 32  # columns of a kernel, as of a layer of few classes

Rule = Callable[[Any], Any]


@functools.cache
def register() -> None:
    """Makes tf.vectorized_map know them; what it knows already means the same as before."""
    rules: dict[str, Rule] = {"Bitcast": _bitcast, "L2Loss": _l2_loss}
    rules |= dict.fromkeys(ONE_BY_ONE, _one_by_one)
    registry: dict[str, Rule] = _pfor()._pfor_converter_registry
    for name, rule in rules.items():
        registry[name] = _either(registry[name], rule) if name in registry else rule
    registry["MatMul"] = _narrow_or(registry["MatMul"])


def _pfor() -> Any:
    return importlib.import_module("tensorflow.python.ops.parallel_for.pfor")


def _either(own: Rule, rule: Rule) -> Rule:
    """TensorFlow's rule, which for convolutions takes the same filters for all; else ours."""

    def choose(pfor_input: Any) -> Any:
        if any(wrapped.is_stacked for wrapped in pfor_input.inputs[1:]):
            return rule(pfor_input)
        return own(pfor_input)

    return choose


def _narrow_or(own: Rule) -> Rule:
    """TensorFlow's rule; the product of another order in the gradient of stacked narrow kernels."""

    def choose(pfor_input: Any) -> Any:
        left, right = pfor_input.inputs
        plain = not (pfor_input.get_attr("transpose_a") or pfor_input.get_attr("transpose_b"))
        if plain and left.is_stacked and right.is_stacked and 0 < (right.t.shape[-1] or 0) < NARROW:
            return _pfor().wrap(_narrow_product(left.t, right.t), True)
        return own(pfor_input)

    return choose


def _narrow_product(x: Any, kernel: Any) -> Any:
    """`x @ kernel` of each member. XLA on a CPU takes half the time for the gradient of a kernel of
    few columns as (error^T x)^T that it takes for x^T error; elsewhere they are much the same."""
    import tensorflow as tf

    @tf.custom_gradient
    def product(x: Any, kernel: Any) -> Any:
        def gradient(error: Any) -> tuple[Any, Any]:
            of_kernel = tf.matmul(error, x, adjoint_a=True)
            return tf.matmul(error, kernel, adjoint_b=True), tf.linalg.adjoint(of_kernel)

        return tf.matmul(x, kernel), gradient

    return product(x, kernel)


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
