"""What vectorized_map and torch's vmap are given, so that Keras' layers run stacked."""

from __future__ import annotations

import importlib

import keras

from l2keras._keras import tensorflow_rules, torch_vmap
from tests.support.models import ON_TENSORFLOW, ON_TORCH, to_numpy


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
