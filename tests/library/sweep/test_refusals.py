"""What `sweep` refuses, by name, and before it trains."""

from __future__ import annotations

import logging
from collections.abc import Callable
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, optimizers

import l2keras
from l2keras._sweep import loops
from tests.support.models import BACKEND, ON_TENSORFLOW
from tests.support.sweeps import data, linear


@pytest.fixture(autouse=True)
def _nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step ends: where the backend compiles, the compiled call is not reached."""
    trained: list[Any] = []
    call = loops.Loop.__call__

    def counted(self: Any, indices: Any, pool: Any) -> None:
        call(self, indices, pool)
        trained.append(indices)
        raise AssertionError("a step has been trained")

    monkeypatch.setattr(loops.Loop, "__call__", counted)


def run(build: Callable[[], Any] = linear, lam: Any = (0.1, 0.2), **options: Any) -> Any:
    x, y = data()
    settings: dict[str, Any] = {"x": x, "y": y, "loss": "mse", "verbose": 0, **options}
    return l2keras.sweep(build, lam, settings.pop("x"), settings.pop("y"), **settings)


MULTI = getattr(optimizers, "MultiOptimizer", None)
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "global_clipnorm": lambda: optimizers.SGD(0.1, global_clipnorm=1.0),
    "clipnorm": lambda: optimizers.Adam(0.1, clipnorm=1.0),
    "Muon": lambda: optimizers.Muon(0.1),
    "Lamb": lambda: optimizers.Lamb(0.1),
    "Adafactor": lambda: optimizers.Adafactor(0.1),
    "LossScaleOptimizer": lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1)),
    r"AdamW\(weight_decay=0.004\)": lambda: optimizers.AdamW(0.1),
    r"Adam\(weight_decay=0.01\)": lambda: optimizers.Adam(0.1, weight_decay=0.01),
    "Mine": lambda: type("Mine", (optimizers.SGD,), {})(0.1),
    "Adam of tests": lambda: type("Adam", (optimizers.Adam,), {})(0.1),
    "learning_rate=<function": lambda: optimizers.SGD(lambda: 0.1),
}
OPTIMIZERS |= {
    name: make
    for name, make in {
        "ScheduleFreeAdamW": lambda: optimizers.ScheduleFreeAdamW(0.1),
    }.items()
    if hasattr(optimizers, name)
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_that_is_not_elementwise_is_named(name: str) -> None:
    """What came and the remedy are in the message."""
    with pytest.raises(ValueError, match=rf"Received: .*{name}"):
        run(optimizer=OPTIMIZERS[name]())


@pytest.mark.skipif(MULTI is None, reason="this Keras has no MultiOptimizer")
def test_a_multi_optimizer_is_named() -> None:
    """Its members step variables of their own."""
    with pytest.raises(ValueError, match="MultiOptimizer"):
        run(optimizer=MULTI(lambda variable: optimizers.SGD(0.1)))  # type: ignore[misc]


def test_ftrl_is_refused_decoupled() -> None:
    """It overwrites W, so that only the loss or the gradient can carry lambda."""
    with pytest.raises(ValueError, match="Ftrl"):
        run(optimizer=optimizers.Ftrl(0.1), coupling="decoupled")


class OwnStep(keras.Model):
    """A model that trains in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)

    def train_step(self, *args: Any) -> Any:
        raise AssertionError("called")


def dense(**options: Any) -> Callable[[], Any]:
    return lambda: keras.Sequential([keras.Input((3,)), layers.Dense(2, name="top", **options)])


MODELS: dict[str, Callable[[], Any]] = {
    "constraint MaxNorm of .*kernel": dense(kernel_constraint=keras.constraints.MaxNorm(1.0)),
    "train_step of OwnStep": OwnStep,
    "top in float16": dense(dtype="mixed_float16"),
    "kernel of dtype bfloat16": dense(dtype="bfloat16"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_cannot_share_a_step_is_named(name: str) -> None:
    """A constraint, a train_step of its own, scaled losses, weights of 16 bits."""
    with pytest.raises(ValueError, match=rf"Received: .*{name}.*one by one"):
        run(MODELS[name])


def opaque(value: Any) -> Any:
    """A number made of a matrix, by an operation that has no form over stacked weights."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.math.real(tf.linalg.logm(tf.cast(value, "complex64")))[0, 0]
    if BACKEND == "torch":
        return float(value.detach().sum())
    import jax

    shape = jax.ShapeDtypeStruct((2, 2), value.dtype)
    return jax.pure_callback(np.asarray, shape, jax.lax.stop_gradient(value))[0, 0]


class Opaque(layers.Layer):
    """Multiplies by what `opaque` makes of a weight; in training, too, if that is not excluded."""

    def __init__(self, *, in_training: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.in_training = in_training

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(2, 2), initializer="ones")

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training and not self.in_training:
            return inputs
        return inputs * opaque(keras.ops.convert_to_tensor(self.scale))


class OpaqueMetric(keras.metrics.Mean):
    """The mean output, as a result that has no form over stacked weights."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(y_pred)

    def result(self) -> Any:
        return opaque(keras.ops.ones((2, 2)) * super().result())


def test_a_layer_without_a_form_over_stacked_weights_is_named() -> None:
    """The name of the layer and its class are in the message, and no step has been done."""

    def build() -> Any:
        return keras.Sequential([keras.Input((3,)), layers.Dense(2), Opaque(name="opaque")])

    with pytest.raises(ValueError, match=r"Received: .*opaque.*one by one"):
        run(build)


@ON_TENSORFLOW
def test_a_refusal_is_all_that_is_said() -> None:
    """TensorFlow logs the operation, its attributes and stack as errors; they are held back."""
    logger, said = logging.getLogger("tensorflow"), SimpleQueue[logging.LogRecord]()
    handler = QueueHandler(said)
    logger.addHandler(handler)
    try:
        with pytest.raises(ValueError, match="form over stacked weights"):
            run(lambda: keras.Sequential([keras.Input((3,)), layers.Dense(2), Opaque()]))
        assert said.empty()
        logger.error("of another's")
        assert "of another's" in said.get_nowait().getMessage()
    finally:
        logger.removeHandler(handler)


class Noisy(layers.Layer):
    """Draws from the generator of the process."""

    def call(self, inputs: Any) -> Any:
        return inputs + keras.random.normal(keras.ops.shape(inputs))


def test_an_assignment_to_a_trainable_variable_is_refused() -> None:
    """SpectralNormalization normalizes its kernel in place: the assignment would be lost."""

    def build() -> Any:
        normalized = layers.SpectralNormalization(layers.Dense(2, name="normalized"))
        return keras.Sequential([keras.Input((3,)), normalized])

    # on torch another part of the layer is what has no form
    match = r"spectral_normalization" if BACKEND == "torch" else r"an assignment to .*kernel\."
    with pytest.raises(ValueError, match=match):
        run(build)


class Summed(layers.Layer):
    """Adds its inputs up along an axis that a weight names."""

    def build(self, shape: Any) -> None:
        self.axis = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs: Any) -> Any:
        import tensorflow as tf

        return tf.cumsum(inputs, tf.cast(keras.ops.convert_to_tensor(self.axis), "int32"))


@ON_TENSORFLOW
def test_an_operation_that_only_has_another_form_is_named() -> None:
    """TensorFlow has a rule for Cumsum, but not along an axis of each member's own."""
    with pytest.raises(ValueError, match=r"Received: the operation Cumsum in .*summed.*\. Leave"):
        run(lambda: keras.Sequential([keras.Input((3,)), layers.Dense(2), Summed(name="summed")]))


def test_random_numbers_without_a_seed_are_refused() -> None:
    """They are drawn from a generator of the process, whose state is no variable of the model."""
    with pytest.raises(ValueError, match=r"seed"):
        run(lambda: keras.Sequential([keras.Input((3,)), Noisy(), layers.Dense(2)]))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"metrics": [keras.metrics.F1Score()]}, r"metric f1_score of shape \(2,\)"),
        ({"loss": keras.losses.MeanSquaredError(reduction=None)}, r"loss of shape \(2,\)"),
    ],
    ids=["metric", "loss"],
)
def test_what_is_more_than_a_number_is_refused(options: dict[str, Any], what: str) -> None:
    """F1Score gives one for each class, a loss without reduction one for each example."""
    with pytest.raises(ValueError, match=what):
        run(**options)


def test_a_metric_without_a_direction_cannot_stop_early() -> None:
    """Keras says so, and what to pass, before a step."""

    class Size(keras.metrics.Mean):
        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            super().update_state(y_pred)

    stopping = keras.callbacks.EarlyStopping("size")
    with pytest.raises(ValueError, match="mode='max'"):
        run(metrics=[Size(name="size")], early_stopping=stopping)


def test_an_evaluation_without_a_form_is_refused_before_training() -> None:
    """What only `validation_data` meets is named before a step has been trained."""

    def build() -> Any:
        return keras.Sequential([keras.Input((3,)), layers.Dense(2), Opaque(in_training=False)])

    with pytest.raises(ValueError, match=r"Received: .*opaque.*one by one"):
        run(build, validation_data=data())
    with pytest.raises(AssertionError, match="a step has been trained"):
        run(build)


@pytest.mark.parametrize("options", [{}, {"validation_data": data()}], ids=["fit", "evaluate"])
def test_a_result_without_a_form_is_refused_before_training(options: dict[str, Any]) -> None:
    """The metric's result, which Keras asks for after the epoch, is made beforehand."""
    with pytest.raises(ValueError, match=r"form over stacked weights.*one by one"):
        run(metrics=[OpaqueMetric()], **options)


REGULARIZERS: dict[str, Any] = {
    r"HalfL2\(lam=0.1\)": l2keras.HalfL2(0.1),
    r"L2\(l2=0.1\)": keras.regularizers.L2(0.1),
    r"L1L2\(l1=0.1, l2=0.2\)": keras.regularizers.L1L2(0.1, 0.2),
    "OrthogonalRegularizer": keras.regularizers.OrthogonalRegularizer(0.1),
}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_penalty_of_the_models_own_is_refused_where_it_decays_twice(name: str) -> None:
    """By the name of the variable, whatever the coupling is."""
    build = dense(kernel_regularizer=REGULARIZERS[name])
    for coupling in ("penalty", "decoupled"):
        with pytest.raises(ValueError, match=rf"twice\. Received: {name}.* of .*top/kernel\. Leav"):
            run(build, coupling=coupling)


@pytest.mark.parametrize(
    ("regularizer", "options"),
    [
        (keras.regularizers.L1(0.1), {}),  # pulls the weights in another way
        (l2keras.HalfL2(0.1), {"lam": 0.0}),
        (l2keras.HalfL2(0.1), {"include": "*", "exclude": "*kernel"}),
    ],
    ids=["L1", "no lam", "excluded"],
)
def test_a_penalty_that_decays_nothing_twice_may_stay(
    regularizer: Any, options: dict[str, Any]
) -> None:
    """Its gradient is part of what each member is trained with, as in `fit`."""
    with pytest.raises(AssertionError, match="a step has been trained"):
        run(dense(kernel_regularizer=regularizer), **options)


class Sparse:
    """Has the shape of an array and is none."""

    shape = (11, 3)


ARGUMENTS: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "lam=-0.1": ({"lam": [0.1, -0.1]}, ValueError),
    "lam='0.1'": ({"lam": "0.1"}, TypeError),
    r"lam=\[\]": ({"lam": []}, ValueError),
    "0.5": ({"seeds": [0, 0.5]}, ValueError),
    "-1": ({"seeds": -1}, ValueError),
    r"seeds=\[\]": ({"seeds": ()}, ValueError),
    "learning_rates=0.0": ({"learning_rates": [0.1, 0.0]}, ValueError),
    "learning_rates=nan": ({"learning_rates": [np.nan]}, ValueError),
    "epochs=0": ({"epochs": 0}, ValueError),
    "memory_budget='4GB'": ({"memory_budget": "4GB"}, TypeError),
    "memory_budget=0": ({"memory_budget": 0}, ValueError),
    "batch_size=1.5": ({"batch_size": 1.5}, ValueError),
    "coupling='penalti'": ({"coupling": "penalti"}, ValueError),
    "a tuple of 3": ({"validation_data": (1, 2, 3)}, ValueError),
    "generator": ({"x": (row for row in np.ones((4, 3)))}, TypeError),
    r"\[3, 11\]": ({"y": np.ones((3, 2))}, ValueError),
    r"\[0\]": ({"x": np.ones((0, 3)), "y": np.ones((0, 2))}, ValueError),
    "Sparse": ({"x": Sparse()}, TypeError),
    "a list of 2": ({"y": [1, 2]}, TypeError),
    "of type set": ({"lam": {0.1}}, TypeError),
    "monitor='val_loss', where loss, data_loss": (
        {"early_stopping": keras.callbacks.EarlyStopping()},
        ValueError,
    ),
    "TerminateOnNaN": ({"early_stopping": keras.callbacks.TerminateOnNaN()}, TypeError),
    "include='nothing'": ({"include": "nothing"}, ValueError),
    "exclude=3": ({"exclude": 3}, TypeError),
}


@pytest.mark.parametrize("received", ARGUMENTS)
def test_an_argument_that_makes_no_sense_is_refused(received: str) -> None:
    """With what was expected, what came and the remedy."""
    options, error = ARGUMENTS[received]
    with pytest.raises(error, match=rf"Received: .*{received}.*\. \w.*"):
        run(**options)


@ON_TENSORFLOW
def test_a_dataset_is_refused() -> None:
    """The batches of each seed are drawn from arrays."""
    import tensorflow as tf

    with pytest.raises(TypeError, match=r"Dataset.*arrays"):
        run(x=tf.data.Dataset.from_tensor_slices(data()))


def test_a_builder_of_something_else_is_refused() -> None:
    """It has to return a Keras model, of the same shape at every call."""
    with pytest.raises(TypeError, match=r"`build_model` must return a Keras model.*Dense"):
        run(lambda: layers.Dense(2))
    with pytest.raises(TypeError, match=r"function without arguments.*Received: Sequential"):
        run(linear())
    shared = layers.Dense(2, name="shared")
    with pytest.raises(ValueError, match=r"of new layers, at every call.*shared/kernel"):
        run(lambda: keras.Sequential([keras.Input((3,)), shared]))
    units = iter((2, 3, 4))
    with pytest.raises(ValueError, match="the same model at every call"):
        run(lambda: keras.Sequential([keras.Input((3,)), layers.Dense(next(units))]))
