"""What attach returns and refuses; detach: all comes off again, exactly."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from l2keras import HalfL2, attach, detach
from tests.support.attachments import (
    FACTOR,
    LAM,
    compiled,
    one_step,
    regularized,
    shrinkage,
)
from tests.support.models import dense_model


def test_the_result_says_what_was_replaced() -> None:
    """The latest attachment wins, and the previous regularizer is named."""
    before = keras.regularizers.L2(0.25)
    model = compiled(dense_model(regularizer=before, use_bias=True))
    first, second = (
        attach(model, "l1"),
        attach(model, {"class_name": "l2keras>HalfL2", "config": {"lam": LAM}}),
    )
    (change,) = first.changes
    assert (change.path, change.layer) == (f"{model.name}/dense/kernel", "dense")
    assert change.previous is before
    assert second.changes[0].previous is change.regularizer
    assert str(first) == f"{model.name}/dense/kernel: L2(l2=0.25) -> L1(l1=0.01)"
    assert str(second) == f"{model.name}/dense/kernel: L1(l1=0.01) -> HalfL2(lam=0.5)"
    assert "settings" not in repr(first)
    assert shrinkage(model, one_step(model)) == pytest.approx(FACTOR)


def test_detach_restores_exactly_what_was_there() -> None:
    """All attachments in reverse order, on the variable and on the layer: the same object."""
    before = keras.regularizers.L2(0.25)
    model = dense_model(regularizer=before, use_bias=True)
    layer = model.get_layer("dense")
    attach(model, HalfL2(LAM))
    attach(model, HalfL2(2 * LAM), include="*")
    restored = detach(model)
    assert [change.path.rsplit("/")[-1] for change in restored] == ["kernel", "bias", "kernel"]
    assert [change.previous.lam for change in restored] == [2 * LAM, 2 * LAM, LAM]
    assert restored[-1].regularizer is before
    assert layer.kernel.regularizer is before
    assert layer.kernel_regularizer is before
    assert layer.bias.regularizer is None
    assert layer.bias_regularizer is None
    with pytest.raises(ValueError, match="`detach` needs a model"):
        detach(model)


def test_detach_one_attachment() -> None:
    """One of two groups comes off; the other stays, and comes off with the model."""
    model = dense_model(use_bias=True)
    attach(model, HalfL2(LAM))
    bias = attach(model, HalfL2(LAM), include="*bias")
    assert [change.path for change in detach(bias)] == [f"{model.name}/dense/bias"]
    assert regularized(model) == [("kernel", LAM)]
    with pytest.raises(ValueError, match="which has none left"):
        detach(bias)
    assert len(detach(model)) == 1


def test_detach_refuses_to_overwrite() -> None:
    """Where somebody set another regularizer since, nothing is changed."""
    model = dense_model(use_bias=True)
    first = attach(model, HalfL2(LAM), include="*")
    attach(model, HalfL2(2 * LAM))
    with pytest.raises(ValueError, match=r"a later attachment is detached first"):
        detach(first)
    model.get_layer("dense").bias.regularizer = mine = HalfL2(3.0)
    with pytest.raises(ValueError, match=r"`detach` needs the HalfL2\(lam=0.5\).*lam=3"):
        detach(model)
    assert regularized(model) == [("kernel", 2 * LAM), ("bias", 3.0)]
    assert model.get_layer("dense").bias.regularizer is mine


def test_the_model_is_not_kept_alive() -> None:
    """What detach needs is remembered for as long as the model lives, and no longer."""
    model = dense_model()
    attachment = attach(model, HalfL2(LAM))
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
    with pytest.raises(ValueError, match="which has none left"):
        detach(attachment)


class NoConfig(keras.regularizers.Regularizer):
    """A regularizer with which a model cannot be saved."""

    def __call__(self, x: Any) -> Any:
        return keras.ops.sum(x)


@pytest.mark.parametrize(
    ("regularizer", "message"),
    [
        (None, "To remove one call l2keras.detach"),
        (0.01, r"A bare number has no convention: write HalfL2\(lam=0.01\)"),
        (1, r"write HalfL2\(lam=1\)"),
        (np.float32(0.5), "A bare number has no convention"),
        (np.zeros(2), "A bare number has no convention"),
        ("l3", r"Received: regularizer='l3'\. Pass one regularizer, made: l2keras.HalfL2"),
        ([HalfL2(0.1)], r"Received: regularizer=\[HalfL2\(lam=0.1\)\]\. Pass one regularizer"),
        ({"class_name": "HalfL3", "config": {}}, "Pass one regularizer"),
        (HalfL2, "Pass one regularizer"),
        (lambda w: 0.0, "Subclass keras.regularizers.Regularizer"),
        (NoConfig(), "Give it a get_config"),
    ],
)
def test_what_is_no_regularizer_is_refused(regularizer: Any, message: str) -> None:
    """With what was expected and a remedy, before anything is changed."""
    model = dense_model()
    with pytest.raises(TypeError, match=message):
        attach(model, regularizer)
    assert not model.losses
    assert model.get_layer("dense").kernel_regularizer is None


def test_what_is_no_model_or_has_no_such_weight_is_refused() -> None:
    """A layer, a model that is not built, a pattern without match, detach without attach."""
    model = dense_model()
    with pytest.raises(TypeError, match=r"`attach` needs a built keras\.Model"):
        attach(model.get_layer("dense"), HalfL2(LAM))
    with pytest.raises(ValueError, match=r"Call model\.build"):
        attach(keras.Sequential([layers.Dense(3)]), HalfL2(LAM))
    with pytest.raises(ValueError, match=r"nearest paths are: .*dense/kernel"):
        attach(model, HalfL2(LAM), include="*/dense/kernl")
    with pytest.raises(ValueError, match=r"^At least one trainable variable must be selected"):
        attach(model, HalfL2(LAM), exclude="*")
    with pytest.raises(TypeError, match="glob pattern"):
        attach(model, HalfL2(LAM), exclude=3)  # type: ignore[arg-type]  # what is tested
    for what in (model, model.get_layer("dense"), None):
        with pytest.raises(ValueError, match="`detach` needs a model"):
            detach(what)
