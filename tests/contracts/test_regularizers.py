"""HalfL2 wherever Keras takes a regularizer, and through every way of saving it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import HalfL2
from tests.support.models import dense_model, fit, gradient, kernel, random_data, relative_distance
from tests.support.models import to_numpy as numpy_of
from tests.support.refused import REFUSED_TYPES, REFUSED_VALUES

# layer, the shape of a batch, the name of the regularized weight
SLOTS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...], str]] = {
    "kernel": (
        lambda r: keras.layers.Dense(3, kernel_regularizer=r),
        (2, 4),
        "kernel",
    ),
    "bias": (lambda r: keras.layers.Dense(3, bias_regularizer=r), (2, 4), "bias"),
    "depthwise": (
        lambda r: keras.layers.DepthwiseConv2D(2, depthwise_regularizer=r),
        (2, 4, 4, 3),
        "kernel",
    ),
    "recurrent": (
        lambda r: keras.layers.GRU(3, recurrent_regularizer=r),
        (2, 4, 3),
        "recurrent_kernel",
    ),
    "embeddings": (
        lambda r: keras.layers.Embedding(5, 3, embeddings_regularizer=r),
        (2, 4),
        "embeddings",
    ),
    "gamma": (
        lambda r: keras.layers.LayerNormalization(gamma_regularizer=r),
        (2, 4),
        "gamma",
    ),
}


@pytest.mark.parametrize("slot", SLOTS)
def test_every_slot_of_a_layer_is_penalized(slot: str) -> None:
    """The layer's one loss is lam/2 times the weight's sum of squares."""
    make_layer, shape, name = SLOTS[slot]
    layer = make_layer(HalfL2(0.5))
    layer.build(shape)
    (weight,) = (w for w in layer.trainable_weights if w.path.endswith("/" + name))
    values = np.linspace(-1, 2, int(np.prod(weight.shape))).reshape(weight.shape)
    weight.assign(values)
    (loss,) = layer.losses
    assert float(numpy_of(loss)) == pytest.approx(0.25 * float(np.sum(values**2)), rel=1e-6)


def test_activities_are_penalized_per_sample() -> None:
    """As an activity regularizer it sees the outputs; Keras divides by the batch size."""
    layer = keras.layers.Activation("linear", activity_regularizer=HalfL2(0.5))
    layer(keras.ops.convert_to_tensor([[3.0, 4.0], [0.0, 5.0]]))
    assert float(numpy_of(layer.losses[0])) == 0.25 * 50 / 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_is_lam_times_w(dtype: str) -> None:
    """The backend's own autodiff of HalfL2(0.5) at W gives W / 2 in W's dtype."""
    weight = np.array([[3.0, -1.0], [0.25, 8.0]], dtype)
    result = gradient(HalfL2(0.5), weight)
    assert result.dtype == dtype
    assert np.array_equal(result, weight / 2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_weights_are_summed_in_float32(dtype: str) -> None:
    """A 400x400 tensor of ones at lam=1 gives 80,000, not inf."""
    total = HalfL2(1.0)(keras.ops.ones((400, 400), dtype))
    assert keras.backend.standardize_dtype(total.dtype) == "float32"
    assert float(numpy_of(total)) == 80_000.0


def test_float64_weights_stay_float64() -> None:
    """One part in 1e12 of a float64 weight is still seen in the penalty."""
    total = HalfL2(1.0)(keras.ops.convert_to_tensor(np.array([1.0 + 1e-12])))
    assert keras.backend.standardize_dtype(total.dtype) == "float64"
    assert float(numpy_of(total)) == pytest.approx(0.5 + 1e-12, abs=1e-15)


def test_a_float16_model_trains_with_it() -> None:
    """The float32 penalty of a float16 kernel joins the loss, and its gradient comes back."""
    keras.config.set_dtype_policy("float16")
    model = dense_model(regularizer=HalfL2(0.5))
    before = kernel(model).astype("float32")
    model.compile(keras.optimizers.SGD(0.5), "mse")
    fit(model, (np.zeros((1, 3)), np.zeros((1, 2))))
    assert kernel(model).dtype == "float16"
    assert relative_distance(kernel(model), 0.75 * before) < 1e-3


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_equals_keras_l2_at_half_of_lam(optimizer: str) -> None:
    """HalfL2(lam) and L2(lam / 2) give the same losses and the same weights."""
    runs = []
    for regularizer in (HalfL2(0.5), keras.regularizers.L2(0.25), None):
        model = dense_model(use_bias=True, regularizer=regularizer)
        model.compile(keras.optimizers.get(optimizer), "mse")
        model.optimizer.learning_rate = 0.1
        losses = fit(model, random_data(40), epochs=2)["loss"]
        runs.append((losses, kernel(model)))
    (losses, ours), (builtin_losses, builtin), (_, plain) = runs
    assert losses == pytest.approx(builtin_losses, rel=1e-6)
    assert relative_distance(ours, builtin) < 1e-6
    assert relative_distance(ours, plain) > 0.1


def test_the_config_is_the_float_that_came_in() -> None:
    """get_config is plain Python, exact, and survives JSON."""
    config = HalfL2(0.1).get_config()
    assert config == {"lam": 0.1}
    assert type(config["lam"]) is float
    assert HalfL2.from_config(json.loads(json.dumps(config))).lam == 0.1
    half: Any = np.float32(0.5)
    assert HalfL2(half).get_config() == {"lam": 0.5}


@pytest.mark.parametrize("custom_objects", [None, {}])
def test_keras_finds_it_by_its_registered_name(custom_objects: dict[str, Any] | None) -> None:
    """regularizers.get with the registered name needs no custom_objects."""
    config = {"class_name": "l2keras>HalfL2", "config": {"lam": 0.1}}
    with keras.saving.CustomObjectScope(custom_objects or {}):
        regularizer = keras.regularizers.get(config)
    assert isinstance(regularizer, HalfL2)
    assert regularizer.lam == 0.1
    assert keras.saving.get_registered_name(HalfL2) == "l2keras>HalfL2"


def _saved(model: Any, folder: Path) -> Any:
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


COPIES: dict[str, Callable[[Any, Path], Any]] = {
    "save": _saved,
    "clone": lambda model, folder: keras.models.clone_model(model),
    "json": lambda model, folder: keras.models.model_from_json(model.to_json()),
    "config": lambda model, folder: type(model).from_config(model.get_config()),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_of_a_model_keeps_it(copy: str, tmp_path: Path) -> None:
    """The .keras file, clone_model, JSON and config bring the same lam back."""
    model = COPIES[copy](dense_model(regularizer=HalfL2(0.1)), tmp_path)
    layer = model.get_layer("dense")
    assert isinstance(layer.kernel_regularizer, HalfL2)
    assert layer.kernel_regularizer.lam == 0.1
    layer.kernel.assign(np.full((3, 2), 2.0))
    assert float(numpy_of(model.losses[0])) == pytest.approx(1.2)  # 0.1 / 2 * 6 * 4


@pytest.mark.parametrize("lam", [*REFUSED_TYPES.values(), *REFUSED_VALUES.values()])
def test_a_bad_lam_is_refused_at_construction(lam: Any) -> None:
    """Expected, received and remedy are in the one line of the error."""
    with pytest.raises((TypeError, ValueError)) as caught:
        HalfL2(lam)
    message = str(caught.value)
    assert message.startswith("`lam` must be a finite, non-negative float. Received: lam=")
    assert message.endswith("For no penalty pass kernel_regularizer=None.")


wrong_call: Any = HalfL2


def test_pasting_l2_raises_with_the_conversion() -> None:
    """HalfL2(l2=0.01) says that L2(0.01) is HalfL2(0.02)."""
    with pytest.raises(TypeError, match=r"write HalfL2\(lam=0.02\) for the same penalty") as caught:
        wrong_call(l2=0.01)
    assert "Received: l2=0.01." in str(caught.value)
    assert "2 * 0.01 * W" in str(caught.value)


@pytest.mark.parametrize("l2", ["0.01", True])
def test_pasting_something_else_as_l2_still_names_the_conversion(l2: Any) -> None:
    """What cannot be doubled is answered with the formula."""
    with pytest.raises(TypeError, match=r"write HalfL2\(lam=2 \* l2\)"):
        wrong_call(l2=l2)


def test_its_repr_is_how_to_write_it() -> None:
    """repr gives the call."""
    assert repr(HalfL2(0.1)) == "HalfL2(lam=0.1)"
