"""What vectorized_map and torch's vmap are given, so that Keras' layers run stacked."""

from __future__ import annotations

import importlib
from typing import Any

import keras
import numpy as np
import pytest

from l2keras._keras import tensorflow_rules, torch_vmap
from tests.helpers import ON_TENSORFLOW, ON_TORCH, to_numpy


@ON_TENSORFLOW
def test_vectorized_map_finds_the_rules_that_are_registered() -> None:
    """L2Loss has no rule of TensorFlow's own; with ours the loss of each row is half its square."""
    import tensorflow as tf

    pfor = importlib.import_module("tensorflow.python.ops.parallel_for.pfor")
    tensorflow_rules.register()
    assert {"L2Loss", "Bitcast", *tensorflow_rules.ONE_BY_ONE} <= set(pfor._pfor_converter_registry)
    rows = tf.constant([[3.0, 4.0], [0.0, 2.0]])
    losses = tf.vectorized_map(tf.nn.l2_loss, rows, fallback_to_while_loop=False)
    assert to_numpy(losses).tolist() == [12.5, 2.0]


@ON_TENSORFLOW
@pytest.mark.parametrize("columns", [2, tensorflow_rules.NARROW])
def test_a_stacked_product_and_its_gradients(columns: int) -> None:
    """Of sum((x W) ** 2) / 2 for each member: dW = x^T x W, dx = x W W^T, and of dW once more."""
    import tensorflow as tf

    generator = np.random.default_rng(0)
    x, kernel = generator.normal(size=(3, 5, 4)), generator.normal(size=(3, 4, columns))
    tensors = [tf.constant(x), tf.constant(kernel)]
    tensorflow_rules.register()

    @tf.function(autograph=False)
    def derivatives() -> Any:
        with tf.GradientTape() as second:
            second.watch(tensors)
            with tf.GradientTape() as first:
                first.watch(tensors)
                y = tf.vectorized_map(lambda own: own[0] @ own[1], tensors, False)
                total = tf.reduce_sum(tf.square(y)) / 2
            grads = first.gradient(total, tensors)
        return *grads, second.gradient(grads[1], tensors[1])

    turned = np.swapaxes(x, 1, 2)
    gram = turned @ x
    y = x @ kernel
    expected = [y @ np.swapaxes(kernel, 1, 2), turned @ y, gram @ np.ones_like(kernel)]
    for actual, value in zip(derivatives(), expected, strict=True):
        np.testing.assert_allclose(to_numpy(actual), value, rtol=1e-12)
    nodes = {op.type for op in derivatives.get_concrete_function().graph.get_operations()}
    assert ("IdentityN" in nodes) == (columns < tensorflow_rules.NARROW)  # of a custom gradient


@ON_TENSORFLOW
def test_a_stacked_product_of_complex_numbers_keeps_its_gradients() -> None:
    """The rule is for everybody: those of a product that is not stacked, for each member."""
    import tensorflow as tf

    generator = np.random.default_rng(0)
    values = [generator.normal(size=(2, 3, *shape)) for shape in ((5, 4), (4, 2))]
    tensors = [tf.constant(real + 1j * imaginary) for real, imaginary in values]
    tensorflow_rules.register()

    def gradients(product: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            y = product(*tensors)
            total = tf.reduce_sum(tf.abs(y * y + y))
        return tape.gradient(total, tensors)

    stacked = tf.function(
        lambda *own: tf.vectorized_map(lambda pair: pair[0] @ pair[1], own, False), autograph=False
    )
    for actual, expected in zip(gradients(stacked), gradients(tf.matmul), strict=True):
        np.testing.assert_allclose(to_numpy(actual), to_numpy(expected), rtol=1e-12)


@ON_TORCH
def test_what_is_replaced_under_vmap_is_there_and_comes_back() -> None:
    """Keras seeds a torch.Generator in one function, and sets memory formats in another."""
    random = importlib.import_module("keras.src.backend.torch.random")
    layers = importlib.import_module("keras.src.backend.torch.nn")
    names = [(random, "torch_seed_generator"), (layers, "_maybe_convert_to_channels_last")]
    own = [getattr(module, name) for module, name in names]
    with torch_vmap.adapted():
        assert all(getattr(m, name) is not one for (m, name), one in zip(names, own, strict=True))
        assert keras.random.uniform((2,), seed=keras.random.SeedGenerator(1)).shape == (2,)
    assert [getattr(module, name) for module, name in names] == own
