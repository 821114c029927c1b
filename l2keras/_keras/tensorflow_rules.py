"""Rules that tf.vectorized_map lacks for operations that Keras uses, has in part, or has slower.

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

NARROW = 32  # columns of a kernel, as of a layer of few classes

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
