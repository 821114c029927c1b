"""Walking a model: each variable once, with its path, its role and the layer that made it."""

from __future__ import annotations

import keras
import pytest

from l2keras._keras.variables import model_variables


def test_path_role_and_owner_of_each_weight() -> None:
    """Variables come in the order of model.weights, with the layer that created them."""
    dense = keras.layers.Dense(3, name="head")
    norm = keras.layers.BatchNormalization(name="norm")
    model = keras.Sequential([keras.Input((4,)), dense, norm], name="mlp")
    entries = model_variables(model)
    assert [entry.variable for entry in entries] == model.weights
    assert [entry.path for entry in entries] == [weight.path for weight in model.weights]
    assert [entry.role for entry in entries] == [
        "kernel",
        "bias",
        "gamma",
        "beta",
        "moving_mean",
        "moving_variance",
    ]
    assert [entry.owner for entry in entries] == [dense, dense, norm, norm, norm, norm]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("BatchNormalization", (2, 4)),
        ("GroupNormalization", (2, 4, 32)),
        ("LayerNormalization", (2, 4)),
        ("RMSNormalization", (2, 4)),
    ],
)
def test_normalization_layers_are_known(name: str, shape: tuple[int, ...]) -> None:
    """Every weight of a Keras normalization layer says so."""
    layer = getattr(keras.layers, name)()
    layer.build(shape)
    model = keras.Sequential([layer])
    assert model_variables(model)
    assert all(entry.in_normalization for entry in model_variables(model))


def test_keras_has_no_other_normalization_layer() -> None:
    """A layer of Keras named ...Normalization with weights is one of those above."""
    names = {name for name in dir(keras.layers) if name.endswith("Normalization")}
    without_trained_weights = {"Normalization", "SpectralNormalization", "UnitNormalization"}
    assert names - without_trained_weights == {
        "BatchNormalization",
        "GroupNormalization",
        "LayerNormalization",
        "RMSNormalization",
    }


def test_a_nested_model_is_walked_to_its_leaves() -> None:
    """The owner of a weight is the innermost layer, however deep."""
    leaf = keras.layers.Dense(2, name="leaf")
    inner = keras.Sequential([keras.Input((4,)), leaf], name="inner")
    outer = keras.Sequential([keras.Input((4,)), inner], name="outer")
    assert [entry.owner for entry in model_variables(outer)] == [leaf, leaf]


def test_a_shared_layer_counts_once() -> None:
    """A layer that is called twice has its weights in the list once."""
    shared = keras.layers.Dense(4, use_bias=False)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, shared(shared(inputs)))
    assert [entry.variable for entry in model_variables(model)] == [shared.kernel]


def test_frozen_weights_are_listed_too() -> None:
    """Freezing changes what is trainable, not what the model has."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.trainable = False
    assert [entry.variable.trainable for entry in model_variables(model)] == [False, False]


def test_a_weight_of_the_model_itself_is_owned_by_it() -> None:
    """A variable that a subclassed model adds to itself belongs to the model."""

    class Scaled(keras.Model):
        def build(self, input_shape: tuple[int | None, ...]) -> None:
            self.scale = self.add_weight(shape=(2, 2), name="scale")

    model = Scaled()
    model.build((None, 2))
    (entry,) = model_variables(model)
    assert entry.owner is model
    assert entry.role == "scale"
