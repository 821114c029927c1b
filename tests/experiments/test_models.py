from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from experiments import fits, models
from experiments.data import Dataset
from experiments.models import MODELS, build_model
from experiments.schema import ModelConfig

SHAPES: dict[str, tuple[int, ...]] = {"image": (9, 7, 2), "features": (6,), "tokens": (5,)}
KIND = {"linear": "features", "mlp": "image", "cnn": "image", "resnet": "image"}
FITTING = [(name, KIND.get(name, "tokens")) for name in MODELS] + [("linear", "image")]


def _dataset(kind: str, task: str = "classification") -> Dataset:
    """Four examples: odd sizes, so that a mixed-up axis or a bad padding shows."""
    rng = np.random.default_rng(0)
    x = rng.integers(11, size=(4, *SHAPES[kind]))
    x = x.astype("int32") if kind == "tokens" else (x / 10).astype("float32")
    y, outputs = (np.arange(4) % 3, 3) if task == "classification" else (x[:, :1], 1)
    return Dataset("toy", x, y, x, y, task, kind, outputs, 11 if kind == "tokens" else 0)


def _build(
    name: str, kind: str, regularizer: Any = None, seed: int = 0, **options: Any
) -> keras.Model:
    config = ModelConfig(name, **{"width": 32, "depth": 2, **options})
    return build_model(config, _dataset(kind), regularizer, seed)


def _assert_same(ones: list[Any], others: list[Any]) -> None:
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("name", "kind"), FITTING)
def test_regularizer_is_on_kernels_and_embeddings_only(name: str, kind: str) -> None:
    """The regularized variables are the ones that l2keras decays by default."""
    regularizer = l2keras.HalfL2(0.1)
    model = _build(name, kind, regularizer)
    regularized = [v.path for v in model.variables if v.regularizer is not None]
    assert regularized == [v.path for v in l2keras.masks.select(model)]
    assert all(v.regularizer in (None, regularizer) for v in model.variables)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("linear", 1),
        ("mlp", 3),  # two hidden, one output
        ("cnn", 3),
        ("resnet", 7),  # stem, two blocks of two, one projection, output
        ("transformer", 15),  # two embeddings, two blocks of four and two, output
        ("gru", 6),  # embedding, two layers of kernel and recurrent kernel, output
    ],
)
def test_number_of_kernels(name: str, count: int) -> None:
    """Each architecture has the kernels and embeddings that its description says."""
    model = _build(name, KIND.get(name, "tokens"))
    assert len(l2keras.masks.select(model)) == count


@pytest.mark.parametrize(("name", "kind"), FITTING)
def test_weights_depend_on_the_seed_only(name: str, kind: str) -> None:
    """The same seed gives the same weights with and without regularizer, another seed others."""
    weights = _build(name, kind, seed=1).get_weights()
    keras.utils.set_random_seed(123)  # whatever was drawn before
    _assert_same(weights, _build(name, kind, l2keras.HalfL2(0.1), seed=1).get_weights())
    other = _build(name, kind, seed=2).get_weights()
    assert not np.array_equal(weights[0], other[0])


@pytest.mark.parametrize(("name", "kind"), FITTING)
def test_every_trainable_variable_takes_part(name: str, kind: str) -> None:
    """One step of gradient descent moves every trainable variable."""
    model, data = _build(name, kind), _dataset(kind)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=True)
    before = [np.array(v.numpy()) for v in model.trainable_variables]
    model.train_on_batch(data.x_train, data.y_train)
    still = [
        variable.path
        for variable, old in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(old, variable.numpy())
    ]
    assert [path for path in still if "key/bias" not in path] == []  # softmax cancels key biases


@pytest.mark.parametrize(("name", "kind"), FITTING)
def test_models_are_uncompiled_and_give_logits(name: str, kind: str) -> None:
    """A model comes uncompiled, with one linear output for each class."""
    model = _build(name, kind)
    assert not model.compiled
    assert model.output_shape == (None, 3)
    assert model.get_layer("output").activation is keras.activations.linear


def test_regression_has_one_output_for_each_target() -> None:
    """For a regression the last layer has as many units as there are targets."""
    config = ModelConfig("linear")
    model = build_model(config, _dataset("features", task="regression"), None, seed=0)
    assert model.output_shape == (None, 1)


@pytest.mark.parametrize(("name", "kind"), FITTING)
def test_outputs_are_float32_under_mixed_precision(name: str, kind: str) -> None:
    """Under mixed_float16 the hidden layers compute in float16, the logits in float32."""
    keras.config.set_dtype_policy("mixed_float16")
    model = _build(name, kind)
    assert model.layers[-2].compute_dtype == "float16"
    assert model.output.dtype == "float32"
    assert all(v.dtype == "float32" for v in model.trainable_variables)


@pytest.mark.parametrize(("name", "kind"), FITTING)
@pytest.mark.usefixtures("float64")
def test_float64_is_followed(name: str, kind: str) -> None:
    """Under floatx float64 every weight and the logits are float64."""
    model = _build(name, kind)
    assert model.output.dtype == "float64"
    assert {v.dtype for v in model.trainable_variables} == {"float64"}


# Keras' own way of turning a variable into an array, which NumPy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("name", "kind"), FITTING)
def test_models_survive_saving(name: str, kind: str, tmp_path: Path) -> None:
    """A saved model loads without custom_objects and predicts the same."""
    model, data = _build(name, kind, l2keras.HalfL2(0.1)), _dataset(kind)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(data.x_test), model(data.x_test), rtol=1e-6)


def test_positions_matter_to_the_transformer() -> None:
    """Tokens in another order give other logits."""
    model, data = _build("transformer", "tokens"), _dataset("tokens")
    forward, backward = model(data.x_test), model(data.x_test[:, ::-1])
    assert np.abs(np.subtract(forward, backward)).max() > 1e-3


@pytest.mark.parametrize(("name", "kind"), [f for f in FITTING if f[0] != "linear"])
def test_dropout_is_at_the_rate_asked_for(name: str, kind: str) -> None:
    """Every dropout layer, attention's too, has the rate of the configuration."""
    layers = _build(name, kind, dropout=0.25).layers
    rates = [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)]
    attentions = [x for x in layers if isinstance(x, keras.layers.MultiHeadAttention)]
    rates += [layer.get_config()["dropout"] for layer in attentions]
    assert len(attentions) == (2 if name == "transformer" else 0)
    assert rates
    assert set(rates) == {0.25}


@pytest.mark.parametrize(
    ("name", "kind", "fitting"),
    [
        ("cnn", "features", "linear, mlp"),
        ("resnet", "tokens", "transformer, gru"),
        ("mlp", "tokens", "transformer, gru"),
        ("transformer", "image", "linear, mlp, cnn, resnet"),
        ("gru", "features", "linear, mlp"),
        ("perceptron", "image", "linear, mlp, cnn, resnet"),
    ],
)
def test_model_that_does_not_fit_the_data_raises(name: str, kind: str, fitting: str) -> None:
    """The error names the kind of the inputs and the models that take it."""
    with pytest.raises(ValueError, match=f"takes {kind}.*'{name}'. Choose among: {fitting}."):
        _build(name, kind)


def test_paths_can_be_read() -> None:
    """Variables are named after their layers, whatever was built before."""
    _build("mlp", "image")
    assert [v.path for v in _build("mlp", "image").trainable_variables] == [
        "hidden_1/kernel",
        "hidden_1/bias",
        "hidden_2/kernel",
        "hidden_2/bias",
        "output/kernel",
        "output/bias",
    ]


def test_deep_cnn_on_a_small_image_builds() -> None:
    """Pooling stops at one pixel instead of failing."""
    model = _build("cnn", "image", width=2, depth=6)
    assert model.get_layer("block_6_pool").output.shape == (None, 1, 1, 64)


def test_what_fits_is_what_can_be_built() -> None:
    """The table that answers before Keras is imported names the architectures that exist."""
    assert {kind: set(bodies) for kind, bodies in models._BODIES.items()} == {
        kind: set(names) for kind, names in fits.FITTING.items()
    }
