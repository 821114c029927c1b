from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import l2keras
from l2keras_experiments.config.compatibility import FITTING as MODELS_OF
from l2keras_experiments.config.schema import ConfigError, ModelConfig
from l2keras_experiments.config.targets import TargetError
from l2keras_experiments.data.datasets import Dataset
from l2keras_experiments.training import models
from l2keras_experiments.training.models import build_model
from l2keras_experiments.training.regularization import Method
from tests.support import configs

SHAPES: dict[str, tuple[int, ...]] = {"image": (9, 7, 2), "features": (6,), "tokens": (5,)}
KIND = {"linear": "features", "mlp": "image", "cnn": "image", "resnet": "image"}
MODELS = sorted({name for names in MODELS_OF.values() for name in names})
FITTING = [(name, KIND.get(name, "tokens")) for name in MODELS] + [("linear", "image")]
ARGUMENTS = {"width": 32, "depth": 2}


def _dataset(kind: str, task: str = "classification") -> Dataset:
    """Four examples: odd sizes, so that a mixed-up axis or a bad padding shows."""
    rng = np.random.default_rng(0)
    x = rng.integers(11, size=(4, *SHAPES[kind]))
    x.flat[0] = 10  # so that there are 11 tokens
    x = x.astype("int32") if kind == "tokens" else (x / 10).astype("float32")
    y, outputs = (np.arange(4) % 3, 3) if task == "classification" else (x[:, :1], 1)
    return Dataset("toy", x, y, x, y, None, None, task, outputs)


def _build(
    name: str, kind: str, regularizer: Any = None, seed: int = 0, **options: Any
) -> keras.Model:
    arguments = options if name == "linear" else {**ARGUMENTS, **options}
    config = configs.model(name, **arguments)
    return build_model(config, _dataset(kind), _method(regularizer), seed)


def _method(regularizer: Any = None, **options: Any) -> Method:
    return Method(0.1, regularizer=regularizer, **options)


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
    config = configs.model("linear")
    model = build_model(config, _dataset("features", task="regression"), _method(), seed=0)
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
    np.testing.assert_allclose(loaded(data.x_val), model(data.x_val), rtol=1e-6)


def test_positions_matter_to_the_transformer() -> None:
    """Tokens in another order give other logits."""
    model, data = _build("transformer", "tokens"), _dataset("tokens")
    forward, backward = model(data.x_val), model(data.x_val[:, ::-1])
    assert np.abs(np.subtract(forward, backward)).max() > 1e-3


@pytest.mark.parametrize(("name", "kind"), [f for f in FITTING if f[0] != "linear"])
def test_dropout_is_at_the_rate_asked_for(name: str, kind: str) -> None:
    """Every dropout layer, attention's too, has the rate of the configuration."""
    found = _build(name, kind, dropout=0.25).layers
    rates = [layer.rate for layer in found if isinstance(layer, layers.Dropout)]
    attentions = [x for x in found if isinstance(x, layers.MultiHeadAttention)]
    rates += [layer.get_config()["dropout"] for layer in attentions]
    assert len(attentions) == (2 if name == "transformer" else 0)
    assert rates
    assert set(rates) == {0.25}


@pytest.mark.parametrize(
    ("name", "kind", "fitting"),
    [
        ("cnn", "features", "linear, mlp"),
        ("resnet", "tokens", "linear, mlp"),  # which may be counts
        ("transformer", "image", "linear, mlp, cnn, resnet"),
        ("gru", "features", "linear, mlp"),
    ],
)
def test_model_that_does_not_fit_the_data_raises(name: str, kind: str, fitting: str) -> None:
    """The error names the kind of the inputs and the models that take it."""
    named = "features" if kind == "tokens" else kind
    with pytest.raises(
        ConfigError, match=f"takes {named}, here of.*model={name}. Choose among: {fitting}."
    ):
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


def _reference_mlp(x: Any, regularizer: Any) -> Any:
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dense(32, "relu", kernel_regularizer=regularizer)(x)
    return x


def _reference_cnn(x: Any, regularizer: Any) -> Any:
    for channels in (32, 64):
        x = layers.Conv2D(
            channels, 3, padding="same", use_bias=False, kernel_regularizer=regularizer
        )(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.MaxPooling2D(2, padding="same")(x)
    return layers.Flatten()(x)


def _reference_transformer(tokens: Any, regularizer: Any) -> Any:
    """Two heads of 16; a dense layer four times as wide between the blocks."""
    positions = keras.ops.cumsum(keras.ops.ones_like(tokens), axis=1) - 1
    x = layers.Embedding(11, 32, embeddings_regularizer=regularizer)(tokens)
    x = x + layers.Embedding(5, 32, embeddings_regularizer=regularizer)(positions)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(2, 16, kernel_regularizer=regularizer)(y, y)
        y = layers.LayerNormalization()(x)
        y = layers.Dense(128, "relu", kernel_regularizer=regularizer)(y)
        x = x + layers.Dense(32, kernel_regularizer=regularizer)(y)
    return layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))


def _losses_and_gradients(model: keras.Model, data: Dataset) -> tuple[list[Any], list[Any]]:
    import tensorflow as tf

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        total = loss(data.y_train, model(data.x_train, training=True))
        penalties = list(model.losses)
        total += sum(penalties)
    gradients = tape.gradient(total, [v.value for v in model.trainable_variables])
    return [total, *penalties], [tf.convert_to_tensor(gradient) for gradient in gradients]


@pytest.mark.parametrize(
    ("name", "reference"),
    [("mlp", _reference_mlp), ("cnn", _reference_cnn), ("transformer", _reference_transformer)],
)
def test_attaching_gives_what_the_constructors_give(name: str, reference: Any) -> None:
    """Weights, losses in their order and gradients, to the last bit."""
    data, regularizer = _dataset(KIND.get(name, "tokens")), l2keras.HalfL2(0.1)
    model = _build(name, KIND.get(name, "tokens"), regularizer, seed=3)
    keras.utils.set_random_seed(3)
    inputs = keras.Input(data.input_shape, dtype=model.input.dtype)
    features = reference(inputs, regularizer)  # its initializers draw their seeds first
    outputs = layers.Dense(3, kernel_regularizer=regularizer)(features)
    expected = keras.Model(inputs, outputs)
    _assert_same(model.get_weights(), expected.get_weights())
    (losses, gradients), (expected_losses, expected_gradients) = (
        _losses_and_gradients(built, data) for built in (model, expected)
    )
    assert len(losses) > 3
    _assert_same(losses, expected_losses)
    _assert_same(gradients, expected_gradients)


def own(input_shape: tuple[int, ...], units: int = 4) -> keras.Model:
    """A model with a regularizer of its own on one layer."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Dense(units, kernel_regularizer=keras.regularizers.L1(0.5), name="hidden"),
            layers.Dense(1, name="output"),
        ],
        name="own",
    )


def nested(input_shape: dict[str, Any], num_outputs: int) -> keras.Model:
    inputs = {name: keras.Input(shape, name=name) for name, shape in input_shape.items()}
    return keras.Model(
        inputs, layers.Dense(num_outputs)(layers.Concatenate()(list(inputs.values())))
    )


class Subclassed(keras.Model):
    """As Keras' guide writes it: the other keywords are those of keras.Model."""

    def __init__(self, num_outputs: int, units: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(units, name="hidden")
        self.head = layers.Dense(num_outputs, name="head")

    def call(self, inputs: Any) -> Any:
        return self.head(self.hidden(inputs))


class OwnStep(Subclassed):
    """Its outputs are not what the targets are compared with."""

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, **_: Any) -> Any:
        return keras.ops.mean(keras.ops.square(y_pred))


def unbuilt(num_outputs: int, units: int = 4) -> keras.Model:
    return keras.Sequential(
        [layers.Dense(units, name="hidden"), layers.Dense(num_outputs, name="head")]
    )


def built(input_shape: Any, num_outputs: int, units: int = 4) -> keras.Model:
    model = unbuilt(num_outputs, units)
    return keras.Sequential([keras.Input(input_shape), *model.layers])


def anything(**kwargs: Any) -> keras.Model:
    return unbuilt(3, **kwargs)


def wrong(axis: int) -> keras.Model:
    return keras.Sequential([layers.Softmax(axis), layers.Dense(3)])


def with_outputs(input_shape: Any, shapes: list[list[int]]) -> keras.Model:
    inputs = keras.Input(input_shape)
    outputs = [layers.Reshape(shape)(layers.Dense(int(np.prod(shape)))(inputs)) for shape in shapes]
    return keras.Model(inputs, outputs[0] if len(outputs) == 1 else outputs)


def of_size(shape: list[int], num_outputs: int) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, layers.Dense(num_outputs)(inputs))


def of_sizes(sizes: dict[str, int], num_outputs: int) -> keras.Model:
    return nested({name: (size,) for name, size in sizes.items()}, num_outputs)


class PreparesInputs(keras.Model):
    """Trains on other inputs than the data have."""

    def train_step(self, *args: Any) -> Any:
        raise NotImplementedError


def prepares(num_outputs: int) -> keras.Model:
    inputs = keras.Input((2,))
    return PreparesInputs(inputs, layers.Dense(num_outputs)(inputs))


def no_model() -> int:
    return 3


def broken() -> None:
    raise ValueError("too wide")


def _own(function: str, **arguments: Any) -> ModelConfig:
    return configs.of_target(ModelConfig, f"{__name__}.{function}", **arguments)


def test_a_model_of_ones_own_is_given_what_it_takes() -> None:
    """Its inputs' shape, not the number of outputs, for which it does not ask."""
    model = build_model(
        _own("own", units=7), _dataset("features", task="regression"), _method(), seed=0
    )
    assert [v.shape for v in model.trainable_variables] == [(6, 7), (7,), (7, 1), (1,)]


def test_the_method_replaces_the_regularizer_of_a_model() -> None:
    """Or keeps it and regularizes the rest, where that is asked; "none" takes it off, too."""
    data, regularizer = _dataset("features", task="regression"), l2keras.HalfL2(0.1)
    found = []
    for method in (
        _method(regularizer),
        _method(regularizer, replaces=False),
        _method(),
        _method(replaces=False),
    ):
        model = build_model(_own("own"), data, method, seed=0)
        found.append([type(v.regularizer).__name__ for v in l2keras.masks.select(model)])
    assert found == [
        ["HalfL2", "HalfL2"], ["L1", "HalfL2"], ["NoneType", "NoneType"], ["L1", "NoneType"]
    ]  # fmt: skip


def test_a_model_of_ones_own_starts_from_the_seed() -> None:
    data = _dataset("features", task="regression")
    first = build_model(_own("own"), data, _method(), seed=5).get_weights()
    keras.utils.set_random_seed(1)
    regularized = build_model(_own("own"), data, _method(l2keras.HalfL2(1.0)), seed=5)
    _assert_same(first, regularized.get_weights())


@pytest.mark.parametrize("target", ["Subclassed", "unbuilt", "anything"])
def test_a_model_without_variables_is_built_from_an_example(target: str) -> None:
    """With the weights that the same seed gives a model that knows its inputs."""
    data, regularizer = _dataset("features"), l2keras.HalfL2(0.1)
    arguments = {} if target == "anything" else {"units": 5}
    model = build_model(_own(target, **arguments), data, _method(regularizer), seed=3)
    assert [type(v.regularizer).__name__ for v in l2keras.masks.select(model)] == ["HalfL2"] * 2
    reference = build_model(_own("built", **arguments), data, _method(), seed=3)
    _assert_same(model.get_weights(), reference.get_weights())
    assert model(data.x_train).shape == (4, 3)


def test_a_model_that_cannot_be_built_is_named() -> None:
    data = _dataset("features")
    with pytest.raises(
        TargetError, match=r"wrong, called .* shape \(6,\), raised .*[dD]im"
    ) as error:
        build_model(_own("wrong", axis=5), data, _method(), seed=0)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"`model\.vocabulary_size` must be left out, as"):
        build_model(_own("Subclassed", vocabulary_size=3), data, _method(), seed=0)


MSE, OF_ONES_OWN = {"_target_": "keras.losses.MeanSquaredError"}, {"_target_": "own.loss"}


@pytest.mark.parametrize(
    ("task", "shapes", "loss", "message"),
    [
        ("classification", [[3]], None, ""),
        (
            "classification",
            [[5]],
            None,
            r"shape \(3,\) .*toy has 3 classes.*with_outputs with the shape \(5,\)",
        ),
        ("classification", [[2]], "sparse_categorical_crossentropy", "has 3 classes"),
        ("classification", [[1, 3]], None, r"with the shape \(1, 3\)"),
        ("classification", [[3], [1]], None, r"one output. Received: .*2 outputs of.*\(3,\), \(1,"),
        ("classification", [[5]], OF_ONES_OWN, ""),
        ("classification", [[3], [1]], OF_ONES_OWN, "must have one output"),
        ("regression", [[1]], None, ""),
        ("regression", [[3]], None, r"must have the shape \(1,\) .*toy has 1 target\."),
        ("regression", [[3]], "mse", "has 1 target"),
        ("regression", [[3]], MSE, "has 1 target"),
        ("regression", [[2]], OF_ONES_OWN, ""),
    ],
)
def test_outputs_are_compared_with_the_targets(
    task: str, shapes: list[list[int]], loss: Any, message: str
) -> None:
    """Keras would broadcast some of them in silence."""
    config, data = _own("with_outputs", shapes=shapes), _dataset("features", task)
    if not message:
        build_model(config, data, _method(), 0, loss)
        return
    with pytest.raises(ConfigError, match=message):
        build_model(config, data, _method(), 0, loss)


def test_two_classes_may_have_one_logit() -> None:
    """For a binary loss; the loss of the task takes one for each class."""
    x, y = np.ones((4, 6), "float32"), np.arange(4, dtype="int32") % 2
    data = Dataset("toy", x, y, x, y, None, None, "classification", 2)
    config = _own("with_outputs", shapes=[[1]])
    binary: list[Any] = ["binary_crossentropy", {"_target_": "keras.losses.BinaryCrossentropy"}]
    for loss in binary:
        build_model(config, data, _method(), 0, loss)
    for other in (None, "sparse_categorical_crossentropy"):
        with pytest.raises(ConfigError, match="has 2 classes"):
            build_model(config, data, _method(), 0, other)


def test_a_model_with_a_loss_of_its_own_has_any_outputs() -> None:
    data = _dataset("features", task="regression")
    model = build_model(_own("OwnStep"), data, _method(), 0)
    assert model(data.x_train).shape == (4, 1)
    x = {"a": data.x_train}
    two = Dataset("toy", x, data.y_train, x, data.y_train, None, None, "regression", 1)
    with pytest.raises(TargetError, match="called with an example"):
        build_model(_own("OwnStep"), two, _method(), 0)


def test_a_model_may_take_nested_inputs() -> None:
    x = {"a": np.ones((4, 2), "float32"), "b": np.ones((4, 3), "float32")}
    data = Dataset("toy", x, np.zeros(4), x, np.zeros(4), None, None, "classification", 3)
    model = build_model(_own("nested"), data, _method(l2keras.HalfL2(0.1)), seed=0)
    assert model(x).shape == (4, 3)
    with pytest.raises(ConfigError, match=r"model=mlp takes one array of inputs.*_target_"):
        build_model(configs.model("mlp"), data, _method(), seed=0)


@pytest.mark.parametrize("shape", [[4], [7], [6, 1, 1], [3, 6]])
def test_inputs_of_another_shape(shape: list[int]) -> None:
    """Answered before anything trains, with both shapes."""
    shown = rf"shape \(6,\), as the examples of toy.*of_size .*\({', '.join(map(str, shape))},?\)"
    with pytest.raises(ConfigError, match=rf"{shown}\. Take an argument input_shape"):
        build_model(_own("of_size", shape=shape), _dataset("features"), _method(), 0)


def test_inputs_that_fit() -> None:
    """Of any length, and of a model whose own step may prepare them."""
    data = _dataset("features")
    build_model(_own("of_size", shape=[6]), data, _method(), 0)
    build_model(_own("prepares"), data, _method(), 0)
    inputs = keras.Input((None,))
    model = keras.Model(inputs, keras.ops.sum(inputs, axis=1, keepdims=True))
    models._check_inputs(model, data, "own")


def test_one_axis_of_length_one_is_added_as_keras_does() -> None:
    """The size of (6, 1) is that of (6,)."""
    inputs = keras.Input((6, 1))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(inputs)))
    models._check_inputs(model, _dataset("features"), "own")


@pytest.mark.parametrize("sizes", [{"a": 2, "b": 4}, {"a": 2, "c": 3}, {"a": 2, "b": 3, "c": 1}])
def test_nested_inputs_of_another_shape(sizes: dict[str, int]) -> None:
    x = {"a": np.ones((4, 2), "float32"), "b": np.ones((4, 3), "float32")}
    data = Dataset("toy", x, np.zeros(4), x, np.zeros(4), None, None, "classification", 3)
    build_model(_own("of_sizes", sizes={"b": 3, "a": 2}), data, _method(), 0)
    with pytest.raises(ConfigError, match=r"\{'a': \(2,\), 'b': \(3,\)\}.*of_sizes .*input_shape"):
        build_model(_own("of_sizes", sizes=sizes), data, _method(), 0)


def test_what_is_no_model_is_named() -> None:
    data = _dataset("features")
    with pytest.raises(ConfigError, match=r"no_model must return a keras\.Model. Received: int"):
        build_model(_own("no_model"), data, _method(), seed=0)
    with pytest.raises(TargetError, match="broken raised ValueError: too wide"):
        build_model(_own("broken"), data, _method(), seed=0)
