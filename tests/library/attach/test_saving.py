"""attach on layers of somebody else: saved where that can be, said where not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from keras import layers

from l2keras import HalfL2, attach, detach
from tests.support.attachments import (
    LAM,
    SEQUENCE,
    attention,
    copies,
    half_squares,
    penalty,
    regularized,
)
from tests.support.models import dense_model, to_numpy


class Plain(keras.layers.Layer):
    """A weight that no attribute of the layer regularizes."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(shape[-1], 2), name="table")

    def call(self, inputs: Any) -> Any:
        return inputs @ self.table


@keras.saving.register_keras_serializable(package="tests")
class Block(keras.layers.Layer):
    """Layers inside a layer, without `build`, that take their regularizer from its argument."""

    def __init__(self, kernel_regularizer: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.first = keras.layers.Dense(3, kernel_regularizer=self.kernel_regularizer)
        self.second = keras.layers.Dense(2, kernel_regularizer=self.kernel_regularizer)

    def call(self, inputs: Any) -> Any:
        return self.second(self.first(inputs))

    def get_config(self) -> dict[str, Any]:
        regularizer = keras.regularizers.serialize(self.kernel_regularizer)
        return {**super().get_config(), "kernel_regularizer": regularizer}


@keras.saving.register_keras_serializable(package="tests")
class Named(keras.layers.Layer):
    """A regularizer under names of its own, beside arguments that are None and no regularizers."""

    def __init__(self, limit: Any = None, reg: Any = None, own: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.limit = None if limit is None else float(limit)
        self.reg = keras.regularizers.get(reg)
        self._own = keras.regularizers.get(own)
        self.inner = keras.layers.Dense(3, kernel_regularizer=self._own, name="inner")

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(3, 2), name="table", regularizer=self.reg)
        self.inner.build(shape)

    def call(self, inputs: Any) -> Any:
        return self.inner(inputs) @ self.table

    def get_config(self) -> dict[str, Any]:
        config = {"limit": self.limit}
        for name, regularizer in (("reg", self.reg), ("own", self._own)):
            config[name] = keras.regularizers.serialize(regularizer)
        return {**super().get_config(), **config}


class Subclassed(keras.Model):
    """A model whose config makes its layers anew."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(2, use_bias=False, name="dense")

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)


def subclassed() -> Any:
    model = Subclassed()
    model(np.zeros((1, 3), "float32"))
    return model


def some_kernels_of_attention() -> Any:
    inputs = keras.Input(SEQUENCE)
    return keras.Model(inputs, attention(inputs))


def custom_layer() -> Any:
    return keras.Sequential([keras.Input((3,)), layers.Dense(3), Plain()])


@pytest.mark.parametrize(
    ("make", "include", "lost"),
    [
        (some_kernels_of_attention, "*/query/kernel", ["query/kernel"]),
        (custom_layer, None, ["table"]),
        (subclassed, None, ["dense/kernel"]),
    ],
)
def test_what_cannot_be_saved_is_said(
    make: Callable[[], Any], include: Any, lost: list[str]
) -> None:
    """The penalty counts, a warning names the variables, and a copy has none of it."""
    model = make()
    config = None if isinstance(model, Subclassed) else model.get_config()
    with pytest.warns(UserWarning, match=f"is lost when the model is saved.*{lost[0]}"):
        attachment = attach(model, HalfL2(LAM), include=include)
    said = [change for change in attachment.changes if not change.persistent]
    assert [change.path[-len(name) :] for change, name in zip(said, lost, strict=True)] == lost
    assert "not saved with the model" in str(attachment)
    paths = [change.path for change in attachment.changes]
    squares = sum(half_squares(model, path) for path in paths)
    assert penalty(model) == pytest.approx(LAM * squares)
    if config is not None:
        with keras.saving.CustomObjectScope({"Plain": Plain}):
            clone = keras.models.clone_model(model)
        assert len(regularized(clone)) == len(paths) - len(lost)
        detach(model)
        assert model.get_config() == config


def test_a_block_that_hands_its_regularizer_on_is_saved() -> None:
    """Both kernels follow the one attribute; one of them alone cannot."""
    model = keras.Sequential([keras.Input((3,)), Block()])
    assert attach(model, HalfL2(LAM)).persistent
    assert regularized(keras.models.clone_model(model)) == [("kernel", LAM)] * 2
    detach(model)
    with pytest.warns(UserWarning, match="is lost"):
        attach(model, HalfL2(LAM), include="*/dense/kernel")
    assert not regularized(keras.models.clone_model(model))


@pytest.mark.parametrize("before", [None, keras.regularizers.L1(0.25)])
def test_an_attribute_with_a_name_of_its_own_is_saved(before: Any, tmp_path: Path) -> None:
    """`reg` and `_own`, which the config has as `reg` and `own`, together and one by one."""
    model = keras.Sequential([keras.Input((3,)), Named(reg=before, own=before)])
    config = model.get_config()
    assert attach(model, HalfL2(LAM)).persistent
    for how, found in copies(model, tmp_path).items():
        assert sorted(regularized(found)) == [("kernel", LAM), ("table", LAM)], how
    detach(model)
    assert model.get_config() == config
    attachment = attach(model, HalfL2(LAM), include="*/table")
    assert [change.path for change in attachment.changes if change.persistent] == [
        model.layers[0].table.path
    ]
    assert model.layers[0].limit is None
    assert isinstance(model.layers[0].reg, HalfL2)
    assert model.layers[0]._own is before


@keras.saving.register_keras_serializable(package="tests")
class Counted(keras.initializers.Initializer):
    """Ones, and the shapes that were asked for."""

    shapes: ClassVar[list[tuple[int, ...]]] = []

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        self.shapes.append(tuple(shape))
        return keras.ops.ones(shape, dtype)

    def get_config(self) -> dict[str, Any]:
        return {}


def test_looking_for_what_is_saved_makes_no_arrays() -> None:
    """The copies have no values, neither at once nor at the end of the next scope of Keras."""
    Counted.shapes.clear()
    inputs = keras.Input(SEQUENCE)
    hidden = layers.Dense(3, kernel_initializer=Counted())(inputs)
    hidden = layers.MultiHeadAttention(2, 3, kernel_initializer=Counted())(hidden, hidden)
    model = keras.Model(inputs, layers.LSTM(2, kernel_initializer=Counted())(hidden))
    assert len(Counted.shapes) >= 6
    Counted.shapes.clear()
    assert attach(model, HalfL2(LAM)).persistent
    with keras.StatelessScope():
        pass
    assert Counted.shapes == []


class Computes(keras.layers.Layer):
    """A layer that needs the values of its weights in order to be built."""

    def __init__(self, kernel_regularizer: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, shape: Any) -> None:
        self.start = keras.Variable(np.zeros((2,), "float32"), trainable=False, name="start")
        self.kernel = self.add_weight(
            shape=(shape[-1], 2), name="kernel", regularizer=self.kernel_regularizer
        )

    def call(self, inputs: Any) -> Any:
        return inputs @ self.kernel + self.start

    def get_config(self) -> dict[str, Any]:
        regularizer = keras.regularizers.serialize(self.kernel_regularizer)
        return {**super().get_config(), "kernel_regularizer": regularizer}


def test_a_layer_that_cannot_be_built_without_arrays_is_saved() -> None:
    """Keras refuses a variable with a value in a stateless scope: the copy gets its arrays."""
    model = keras.Sequential([keras.Input((3,)), Computes()])
    assert attach(model, HalfL2(LAM)).persistent


def test_looking_for_what_is_saved_changes_nothing() -> None:
    """Weights, names, the seeds of later layers, and a regularizer of its own stay."""
    inner = dense_model(regularizer=keras.regularizers.L1(0.25), use_bias=True)
    model = keras.Sequential([keras.Input((3,)), *inner.layers, Block()])
    counters = {name: keras.backend.get_uid(name) for name in ("dense", "block", "variable")}
    weights, config = model.get_weights(), model.get_config()
    keras.utils.set_random_seed(3)
    expected = keras.initializers.GlorotUniform()((4, 4))
    keras.utils.set_random_seed(3)
    bias = inner.get_layer("dense").bias.path
    attach(model, HalfL2(LAM), include=[bias, "*/block/*/kernel"])
    assert {name: keras.backend.get_uid(name) - 1 for name in counters} == counters
    assert np.array_equal(to_numpy(keras.initializers.GlorotUniform()((4, 4))), to_numpy(expected))
    assert all(map(np.array_equal, model.get_weights(), weights))
    assert model.get_layer("dense").kernel.regularizer.get_config() == {"l1": 0.25}
    detach(model)
    assert model.get_config() == config
