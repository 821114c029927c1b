"""HalfL2, WeightDecay and variables where they do not belong: what to write in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras import HalfL2, PenaltySplit, WeightDecay
from tests.support.models import dense_model

ZEROS = np.zeros((1, 3), "float32"), np.zeros((1, 2), "float32")


def fit_with(callback: Any) -> None:
    model = dense_model()
    model.compile("sgd", "mse")
    model.fit(*ZEROS, verbose=0, callbacks=[callback])


PLACES: dict[str, tuple[Callable[[], object], str]] = {
    "a regularizer as callback": (
        lambda: fit_with(HalfL2(0.01)),
        r"Pass it to a layer, as kernel_regularizer=HalfL2\(lam\).*WeightDecay\(lam=0.01\)",
    ),
    "a callback as regularizer": (
        lambda: keras.layers.Dense(1, kernel_regularizer=WeightDecay(0.01)),
        r"a callback: pass it to fit\(callbacks=\[...\]\), and HalfL2\(lam\) to layers",
    ),
    "a callback as optimizer": (
        lambda: dense_model().compile(WeightDecay(0.01), "mse"),
        r"a callback: pass it to fit\(callbacks=\[...\]\)",
    ),
    "a class as callback": (
        lambda: fit_with(WeightDecay),
        r"callbacks=\[WeightDecay\(lam=1e-4\)\]",
    ),
    "the class of the regularizer": (
        lambda: fit_with(HalfL2),
        r"Received: the class HalfL2. Pass it to a layer.*The callback is WeightDecay\(lam=1e-4\)",
    ),
    "a class as build_model": (
        lambda: l2keras.sweep(keras.Model, [0.1, 0.2], *ZEROS, loss="mse"),
        r"must return a Keras model that takes `x`. Received: <Model .*call on `x` raises NotImpl",
    ),
    "the class of the split": (lambda: fit_with(PenaltySplit), r"callbacks=\[PenaltySplit\(\)\]"),
    "a class as regularizer": (
        lambda: keras.layers.Dense(1, kernel_regularizer=HalfL2),
        r"Write HalfL2\(lam=1e-4\)",
    ),
    "a regularizer as loss": (
        lambda: HalfL2(0.1)(keras.ops.ones(2), keras.ops.ones(2)),  # type: ignore[call-arg]
        "Pass it to a layer, as kernel_regularizer=",
    ),
    "a layer as pattern": (
        lambda: WeightDecay(0.1, include=keras.layers.Dense(1)),
        r"Received: include=<Dense .*Write include=",
    ),
    "a callback for attach": (
        lambda: l2keras.attach(dense_model(), WeightDecay(0.1)),
        r"Received: regularizer=WeightDecay.*HalfL2\(lam=...\)",
    ),
    "no model": (lambda: l2keras.model_penalty("mlp"), r"Received: model='mlp' of type str"),
    "values of other shapes": (
        lambda: l2keras.model_penalty(dense_model(), [np.ones(5)]),
        r"must have a value of shape \(3, 2\) for .*dense/kernel. Received: array\(\[1.",
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_wrong_place_is_answered_with_the_right_one(place: str) -> None:
    """Also where it is Keras that asks our object for what it has not."""
    call, message = PLACES[place]
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_regularizer_has_no_attribute_of_a_callback() -> None:
    """`hasattr` and `copy` meet an AttributeError, as of any object."""
    assert not hasattr(HalfL2(0.1), "set_model")
    assert not hasattr(HalfL2(0.1), "zzz")


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (HalfL2, "schedule"),
        (WeightDecay, "schedule"),
        (lambda lam: WeightDecay({"*": lam}), "schedule"),
        (lambda lam: WeightDecay(0.1, layer_decay=lam), "callback.layer_decay"),
        (
            lambda lam: WeightDecay(0.1, coupling="independent", peak_learning_rate=lam),
            "largest learning rate",
        ),
    ],
)
def test_a_variable_as_number_is_a_type_error(make: Callable[[Any], object], remedy: str) -> None:
    """Only its present value would count: the error says what can change in training."""
    with pytest.raises(TypeError, match=rf"Received: \w+=<Variable.*a variable.*{remedy}"):
        make(keras.Variable(0.5))


def test_the_remedy_for_a_variable_works() -> None:
    """A callable of the step may read the variable."""
    lam = keras.Variable(0.5, trainable=False)
    model = dense_model()
    before = np.array(keras.ops.convert_to_numpy(model.layers[-1].kernel))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.fit(*ZEROS, verbose=0, callbacks=[WeightDecay(lambda step: lam)])
    after = keras.ops.convert_to_numpy(model.layers[-1].kernel)
    assert np.allclose(after, 0.75 * before)  # 1 - 0.5 * 0.5


def test_the_remedy_for_a_pattern_works() -> None:
    """What the error about include="dense" says to write selects the kernel."""
    model = dense_model()
    with pytest.raises(ValueError, match=r"Write \"[^\"]+\": it matches ") as caught:
        l2keras.masks.select(model, "dense")
    glob = str(caught.value).partition('Write "')[2].partition('"')[0]
    selected = l2keras.masks.select(model, glob)
    assert [variable.path for variable in selected] == [model.layers[-1].kernel.path]
