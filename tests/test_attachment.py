"""attach and detach: the penalty acts at once, is saved with the model, and comes off again."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from keras import layers

from l2keras import HalfL2, WeightDecay, attach, detach
from l2keras._attach.changes import Setting, inherited
from tests.helpers import BACKEND, dense_model, fit_zeros, kernel, mse, to_numpy

ETA, LAM = 0.5, 0.5
FACTOR = 1 - ETA * LAM


def compiled(model: Any = None, **arguments: Any) -> Any:
    model = model or dense_model()
    model.compile(keras.optimizers.SGD(ETA), mse, **arguments)
    return model


def shrinkage(model: Any, run: Callable[[], Any]) -> float:
    """What `run` multiplied the kernel by; the data's gradient is zero."""
    before = kernel(model)
    run()
    return float(np.mean(kernel(model) / before))


def one_step(model: Any, callbacks: Any = ()) -> Callable[[], Any]:
    return lambda: fit_zeros(model, 1, callbacks)


def penalty(model: Any) -> float:
    return float(sum(to_numpy(loss) for loss in model.losses))


def half_squares(model: Any, paths: str = "") -> float:
    """sum(W ** 2) / 2 over the variables whose path ends so, by NumPy."""
    return sum(
        float(np.sum(np.square(to_numpy(variable)))) / 2
        for variable in model.trainable_variables
        if variable.path.endswith(paths)
    )


def regularized(model: Any) -> list[tuple[str, float]]:
    """The last part of the path of each variable with a HalfL2, and its lam, in order."""
    return [
        (variable.path.rsplit("/", 1)[-1], variable.regularizer.lam)
        for variable in model.weights
        if variable.regularizer is not None
    ]


def copies(model: Any, folder: Path) -> dict[str, Any]:
    """The model, copied in each way that Keras has."""
    model.save(folder / "model.keras")
    return {
        "load_model": keras.models.load_model(folder / "model.keras"),
        "clone_model": keras.models.clone_model(model),
        "from_json": keras.models.model_from_json(model.to_json()),
        "pickle": pickle.loads(pickle.dumps(model)),
        "deepcopy": copy.deepcopy(model),
    }


@pytest.mark.parametrize("jit", [False, True])
def test_it_counts_from_the_next_step_on(jit: bool) -> None:
    """After fit and evaluate: training, evaluation and train_on_batch have the penalty; detach."""
    model = compiled(jit_compile=jit and BACKEND != "torch")
    zeros = np.zeros((1, 3), "float32"), np.zeros((1, 2), "float32")
    assert shrinkage(model, one_step(model)) == 1.0
    assert model.evaluate(*zeros, verbose=0) == 0.0
    attach(model, HalfL2(LAM))
    assert model.evaluate(*zeros, verbose=0) == pytest.approx(LAM * half_squares(model))
    assert shrinkage(model, one_step(model)) == pytest.approx(FACTOR)
    assert shrinkage(model, lambda: model.train_on_batch(*zeros)) == pytest.approx(FACTOR)
    assert model.test_on_batch(*zeros) == pytest.approx(LAM * half_squares(model))
    attach(model, HalfL2(2 * LAM))
    assert shrinkage(model, one_step(model)) == pytest.approx(1 - 2 * ETA * LAM)
    detach(model)
    assert shrinkage(model, one_step(model)) == 1.0
    assert model.evaluate(*zeros, verbose=0) == 0.0


@pytest.mark.skipif(BACKEND == "torch", reason="Keras on torch refuses steps_per_execution > 1")
def test_several_steps_an_execution() -> None:
    """Four steps that run in two executions each have the penalty."""
    model = compiled(steps_per_execution=2)
    fit_zeros(model, 4)
    attach(model, HalfL2(LAM))
    assert shrinkage(model, lambda: fit_zeros(model, 4)) == pytest.approx(FACTOR**4)


def test_a_step_that_somebody_holds_is_not_shared() -> None:
    """On JAX equal functions share their traces, also that of an old step and a new compile."""
    model = compiled()
    fit_zeros(model, 1)
    held = model.train_function
    attach(model, HalfL2(LAM))
    assert shrinkage(model, one_step(model)) == pytest.approx(FACTOR)
    compiled(model)
    assert shrinkage(model, one_step(model)) == pytest.approx(FACTOR)
    assert held is not None


def test_together_with_weight_decay() -> None:
    """The callback and the penalty both act, in whichever order they come and go."""
    model, decay = compiled(), WeightDecay(LAM / 2)
    half = 1 - ETA * LAM / 2
    assert shrinkage(model, one_step(model, [decay])) == pytest.approx(half)
    attach(model, HalfL2(LAM))
    both = 1 - ETA * LAM - ETA * LAM / 2
    assert shrinkage(model, one_step(model, [decay])) == pytest.approx(both)
    assert shrinkage(model, one_step(model)) == pytest.approx(FACTOR)
    detach(model)
    assert shrinkage(model, one_step(model, [decay])) == pytest.approx(half)
    assert shrinkage(model, one_step(model)) == 1.0


@pytest.mark.parametrize("with_decay", [False, True])
@pytest.mark.parametrize("hook", ["on_epoch_end", "on_train_batch_begin"])
def test_in_the_middle_of_fit(hook: str, with_decay: bool) -> None:
    """A callback attaches in the second of three steps, with validation between them."""
    model = compiled()
    calls: list[str] = []

    class Attach(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.maybe("on_train_batch_begin", len(calls) == 2)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.maybe("on_epoch_end", epoch == 0)

        def maybe(self, name: str, now: bool) -> None:
            calls.append(name)
            if name == hook and now:
                attach(self.model, HalfL2(LAM))

    decay = [WeightDecay(LAM / 2)] if with_decay else []
    zeros = np.zeros((1, 3), "float32"), np.zeros((1, 2), "float32")
    arguments = {"epochs": 3, "validation_data": zeros}
    found = shrinkage(model, lambda: fit_zeros(model, 1, [*decay, Attach()], **arguments))
    less = ETA * LAM / 2 * with_decay
    assert found == pytest.approx((1 - less) * (FACTOR - less) ** 2, rel=1e-6)
    assert shrinkage(model, one_step(model)) == pytest.approx(FACTOR)


def test_a_model_inside_a_compiled_one() -> None:
    """Attaching to a part counts in every compiled model that holds it, each already fitted."""
    inner = dense_model()
    outer = [
        compiled(keras.Sequential([keras.Input((3,)), inner, layers.Rescaling(1.0)]))
        for _ in range(2)
    ]
    for model in outer:
        fit_zeros(model, 1)
    attach(inner, HalfL2(LAM))
    for model in outer:
        before = kernel(inner)
        fit_zeros(model, 1)
        assert kernel(inner) == pytest.approx(FACTOR * before)


def test_every_copy_of_the_model_has_it(tmp_path: Path) -> None:
    """Saved, cloned, as JSON, pickled and deep-copied: nested, and a shared layer once."""
    shared = layers.Dense(3, name="shared")
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="in")], name="inner")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2, name="head")(inner(shared(shared(inputs)))))
    attachment = attach(model, HalfL2(LAM))
    assert [change.path for change in attachment.changes] == [
        entry.path for entry in model.weights if entry.path.endswith("kernel")
    ]
    assert attachment.persistent
    assert len(model.losses) == 3
    assert penalty(model) == pytest.approx(LAM * half_squares(model, "kernel"))
    for how, found in copies(model, tmp_path).items():
        assert regularized(found) == regularized(model) == [("kernel", LAM)] * 3, how
        assert penalty(found) == pytest.approx(LAM * half_squares(found, "kernel")), how
    detach(model)
    for how, found in copies(model, tmp_path).items():
        assert not found.losses, how


def test_a_loaded_model(tmp_path: Path) -> None:
    """A model that comes from a file with a regularizer gets another, and saves that."""
    compiled(dense_model(regularizer=keras.regularizers.L2(0.1))).save(tmp_path / "a.keras")
    model = keras.models.load_model(tmp_path / "a.keras")
    assert "L2(l2=0.1) -> HalfL2(lam=0.5)" in str(attach(model, HalfL2(LAM)))
    assert shrinkage(model, one_step(model)) == pytest.approx(FACTOR)
    model.save(tmp_path / "b.keras")
    loaded = keras.models.load_model(tmp_path / "b.keras")
    assert shrinkage(loaded, one_step(loaded)) == pytest.approx(FACTOR)


@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetB0", "ConvNeXtTiny"])
def test_keras_applications(name: str) -> None:
    """Every kernel, depthwise ones included, in the model and in its copy; and off again."""
    if BACKEND == "jax" and name != "MobileNetV2":
        pytest.skip("JAX takes 20 s to build it, and nothing in it depends on the backend")
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(32, 32, 3), classes=3)
    expected = [v.path for v in model.trainable_weights if v.path.endswith("kernel")]
    attachment = attach(model, HalfL2(LAM))
    assert [change.path for change in attachment.changes] == expected
    assert attachment.persistent
    clone = type(model).from_config(model.get_config())
    assert regularized(clone) == regularized(model) == [("kernel", LAM)] * len(expected)
    detach(model)
    assert not model.losses
    assert "HalfL2" not in str(model.get_config())


@pytest.mark.skipif(BACKEND != "tensorflow", reason="Saving depends on no backend, and takes 5 s")
def test_a_model_of_keras_applications_survives_saving(tmp_path: Path) -> None:
    """Loaded from a .keras file it has every HalfL2 and the penalty of its own weights."""
    model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=3)
    attach(model, HalfL2(LAM))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    kernels = [v.path for v in loaded.trainable_weights if v.path.endswith("kernel")]
    assert [v.path for v in loaded.weights if v.regularizer is not None] == kernels
    assert len(kernels) == 53  # 52 convolutions and the classifier
    assert penalty(loaded) == pytest.approx(LAM * half_squares(loaded, "kernel"), rel=1e-4)
    assert penalty(loaded) == pytest.approx(penalty(model), rel=1e-6)


def attention(inputs: Any) -> Any:
    return layers.MultiHeadAttention(2, 3, name="mha")(inputs, inputs)


def grouped(inputs: Any) -> Any:
    return layers.GroupQueryAttention(2, 4, 2)(inputs, inputs)


SEQUENCE, IMAGE = (4, 6), (8, 8, 2)
LAYERS: dict[str, tuple[tuple[int, ...], Any, dict[str, int]]] = {
    "Dense": (SEQUENCE, layers.Dense(3), {"kernel": 1}),
    "EinsumDense": (SEQUENCE, layers.EinsumDense("abc,cd->abd", (None, 3)), {"kernel": 1}),
    "Conv2D": (IMAGE, layers.Conv2D(3, 2), {"kernel": 1}),
    "Conv2DTranspose": (IMAGE, layers.Conv2DTranspose(3, 2), {"kernel": 1}),
    "DepthwiseConv2D": (IMAGE, layers.DepthwiseConv2D(2), {"kernel": 1}),
    "SeparableConv2D": (
        IMAGE,
        layers.SeparableConv2D(3, 2),
        {"depthwise_kernel": 1, "pointwise_kernel": 1},
    ),
    "Embedding": ((4,), layers.Embedding(5, 3), {"embeddings": 1}),
    "LSTM": (SEQUENCE, layers.LSTM(3), {"kernel": 1, "recurrent_kernel": 1}),
    "SimpleRNN": (SEQUENCE, layers.SimpleRNN(3), {"kernel": 1, "recurrent_kernel": 1}),
    "ConvLSTM1D": ((3, 6, 2), layers.ConvLSTM1D(2, 2), {"kernel": 1, "recurrent_kernel": 1}),
    "RNN": (
        SEQUENCE,
        layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]),
        {"kernel": 2, "recurrent_kernel": 2},
    ),
    "Bidirectional": (
        SEQUENCE,
        layers.Bidirectional(layers.GRU(3)),
        {"kernel": 2, "recurrent_kernel": 2},
    ),
    "TimeDistributed": (SEQUENCE, layers.TimeDistributed(layers.Dense(2)), {"kernel": 1}),
    "SpectralNormalization": (
        IMAGE,
        layers.SpectralNormalization(layers.Conv2D(2, 1)),
        {"kernel": 1},
    ),
    "MultiHeadAttention": (SEQUENCE, attention, {"kernel": 4}),
    "GroupQueryAttention": (SEQUENCE, grouped, {"kernel": 4}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_are_saved_by_another_layer(name: str) -> None:
    """Each variable of each kind of layer keeps its regularizer in a copy, and none else does."""
    shape, layer, roles = LAYERS[name]
    if isinstance(layer, keras.Layer):
        layer = type(layer).from_config(layer.get_config())
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert attach(model, HalfL2(LAM)).persistent
    found = [role for role, _ in regularized(model)]
    assert {role: found.count(role) for role in found} == roles
    clone = keras.models.clone_model(model)
    assert regularized(clone) == regularized(model)
    detach(model)
    assert not regularized(model)
    assert not regularized(keras.models.clone_model(model))


def test_one_of_two_directions() -> None:
    """The forward half of a Bidirectional is saved without the backward half."""
    inputs = keras.Input(SEQUENCE)
    model = keras.Model(inputs, layers.Bidirectional(layers.GRU(3))(inputs))
    assert attach(model, HalfL2(LAM), include="*forward*/kernel").persistent
    assert regularized(keras.models.clone_model(model)) == [("kernel", LAM)]


def test_biases_and_normalization_when_asked_for() -> None:
    """include="*" takes bias, gamma and beta, and those are saved too."""
    model = keras.Sequential(
        [
            keras.Input(IMAGE),
            layers.Conv2D(3, 2),
            layers.BatchNormalization(),
            layers.LayerNormalization(),
            layers.PReLU(),
        ]
    )
    assert attach(model, HalfL2(LAM), include="*").persistent
    roles = ["kernel", "bias", "gamma", "beta", "gamma", "beta", "alpha"]
    assert regularized(keras.models.clone_model(model)) == [(role, LAM) for role in roles]


def test_lora(tmp_path: Path) -> None:
    """A and B share the kernel's attribute; the frozen kernel has no penalty here or there."""
    model = dense_model()
    model.get_layer("dense").enable_lora(2)
    assert attach(model, HalfL2(LAM)).persistent
    assert [role for role, _ in regularized(model)] == ["lora_kernel_a", "lora_kernel_b"]
    model.save(tmp_path / "lora.keras")
    loaded = keras.models.load_model(tmp_path / "lora.keras")
    assert len(loaded.losses) == len(model.losses) == 2
    detach(model)
    with pytest.warns(UserWarning, match="is lost .*dense/lora_kernel_a"):
        assert not attach(model, HalfL2(LAM), include="*lora_kernel_a").persistent


@pytest.mark.parametrize("before", [None, keras.regularizers.L1(0.25)])
@pytest.mark.parametrize("attention", [False, True])
def test_what_lora_inherited_comes_off_too(before: Any, attention: bool) -> None:
    """The pair that was made after `attach` gets what the kernel gets back, and is reported."""
    if attention:
        inputs = keras.Input(SEQUENCE)
        layer = layers.MultiHeadAttention(2, 3, kernel_regularizer=before)
        model = compiled(keras.Model(inputs, layer(inputs, inputs)))
        adapted = layer.query_dense
    else:
        model = compiled(dense_model(regularizer=before, use_bias=True))
        adapted = model.get_layer("dense")
    attach(model, HalfL2(2 * LAM), include="*bias")
    attach(model, HalfL2(LAM), include=["*kernel", "*bias"])
    adapted.enable_lora(2)
    pair = [adapted.lora_kernel_a, adapted.lora_kernel_b]
    assert [variable.regularizer.lam for variable in pair] == [LAM, LAM]
    changes = detach(model)
    reported = {change.path: change for change in changes if "lora" in change.path}
    for variable in pair:
        assert variable.regularizer is before
        assert reported[variable.path].layer == adapted.name
        assert reported[variable.path].previous.lam == LAM
        assert reported[variable.path].regularizer is before
    assert len(reported) == 2
    assert not [v.path for v in model.weights if isinstance(v.regularizer, HalfL2)]


def test_a_variable_inherits_from_the_attribute_of_its_role() -> None:
    """Kernel and bias had the same attached: in either order the pair gets the kernel's back."""
    layer = dense_model(use_bias=True).get_layer("dense")
    kernels, biases, ours = HalfL2(1.0), HalfL2(2.0), HalfL2(LAM)
    layer.kernel_regularizer = ours
    layer.enable_lora(2)
    settings = [
        Setting(weakref.ref(layer), "bias_regularizer", biases, ours),
        Setting(weakref.ref(layer), "kernel_regularizer", kernels, ours),
    ]
    for order in (settings, settings[::-1]):
        found = {change.path.rsplit("/")[-1]: change.previous for change, _ in inherited(order)}
        assert found == {"lora_kernel_a": kernels, "lora_kernel_b": kernels}


def test_what_lora_got_from_somebody_else_stays() -> None:
    """A pair with another regularizer than the attached one is left alone by `detach`."""
    model = dense_model()
    layer = model.get_layer("dense")
    attach(model, HalfL2(LAM))
    layer.enable_lora(2)
    layer.lora_kernel_a.regularizer = mine = HalfL2(LAM)
    assert [change.path.rsplit("/")[-1] for change in detach(model)] == ["kernel", "lora_kernel_b"]
    assert layer.lora_kernel_a.regularizer is mine


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
