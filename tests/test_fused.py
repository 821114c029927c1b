"""`WeightDecay(fused=)`: update and decay as one XLA cluster, equal to the plain form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import WeightDecay
from l2keras._keras import cluster
from tests.helpers import (
    BACKEND,
    dense_model,
    fit,
    fit_zeros,
    kernel,
    mse,
    random_data,
    relative_distance,
)
from tests.test_optimizers import NOT_DECOUPLED, OPTIMIZERS, build

ON_TENSORFLOW = pytest.mark.skipif(BACKEND != "tensorflow", reason="XLA clusters in a graph")
LAM = 0.5
STEPS = 6


@pytest.fixture
def clusters(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What became of every update that was to be a cluster: "compiled" or "plain"."""
    found: list[str] = []
    find_obstacle = cluster.find_obstacle

    def watched(*args: Any) -> str | None:
        obstacle = find_obstacle(*args)
        found.append("plain" if obstacle else "compiled")
        return obstacle

    monkeypatch.setattr(cluster, "find_obstacle", watched)
    return found


def trained(optimizer: Any, decay: Any, **compiling: Any) -> Any:
    """The kernel after a few steps on random data."""
    model = dense_model()
    model.compile(optimizer, mse, **compiling)
    fit(model, random_data(4 * STEPS), [decay])
    return kernel(model)


FORMS: dict[str, dict[str, Any]] = {
    "decoupled": {},
    "coupled": {"coupling": "coupled"},
    "independent": {"coupling": "independent"},
    "cautious": {"cautious": True},
    "stable": {"stable": True},
    "toward": {"toward": "init"},
    "schedule": {"lam": keras.optimizers.schedules.CosineDecay(LAM, 2 * STEPS)},
    "callable": {"lam": lambda step: LAM / (1 + step)},
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_equal_fused_and_plain(form: str, clusters: list[str]) -> None:
    """Under Adam the weights agree to 1e-12; on TensorFlow they came from a cluster.

    Stable decay needs the moments of all variables, and stays plain.
    """
    arguments = {"lam": LAM, **FORMS[form]}
    fused, plain = (
        trained(keras.optimizers.Adam(0.1), WeightDecay(**arguments, fused=fused))
        for fused in (True, False)
    )
    without = trained(keras.optimizers.Adam(0.1), keras.callbacks.Callback())
    assert relative_distance(fused, plain) < 1e-12
    assert relative_distance(fused, without) > 1e-3
    assert clusters == ["compiled"] * (BACKEND == "tensorflow" and form != "stable")


@ON_TENSORFLOW
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_equal_fused_and_plain(name: str, clusters: list[str]) -> None:
    """XLA has a form of every optimizer of Keras; Nadam updates all variables together."""
    coupling = "coupled" if name in NOT_DECOUPLED else "decoupled"
    fused, plain = (
        trained(build(name), WeightDecay(LAM, coupling=coupling, fused=fused))
        for fused in (True, False)
    )
    assert relative_distance(fused, plain) < 1e-12
    assert clusters == ["compiled"] * (name != "Nadam")


@ON_TENSORFLOW
@pytest.mark.usefixtures("float64")
def test_a_cluster_shrinks_by_the_product(clusters: list[str]) -> None:
    """With zero gradients W is multiplied by (1 - eta*lam) at every step, in closed form."""
    model = dense_model()
    model.compile(keras.optimizers.SGD(0.25, momentum=0.9), mse)
    before = kernel(model)
    fit_zeros(model, STEPS, [WeightDecay(LAM, fused=True)])
    assert relative_distance(kernel(model), before * (1 - 0.25 * LAM) ** STEPS) < 1e-12
    assert clusters == ["compiled"]


SETTINGS: dict[str, Callable[[], Any]] = {
    "clipped": lambda: keras.optimizers.SGD(0.1, clipnorm=0.01),
    "clipped together": lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.01),
    "averaged": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=2),
    "accumulated": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
    "scheduled": lambda: keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 9)),
    "loss scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
}


@ON_TENSORFLOW
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("setting", SETTINGS)
def test_what_keras_does_around_an_update_stays(setting: str, clusters: list[str]) -> None:
    """Clipping, averages, accumulation, schedules and loss scaling act outside of the cluster."""
    fused, plain = (
        trained(SETTINGS[setting](), WeightDecay(LAM, fused=fused)) for fused in (True, False)
    )
    assert relative_distance(fused, plain) < 1e-12
    assert set(clusters) == {"compiled"}


@ON_TENSORFLOW
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("compiling", [{"jit_compile": True}, {"steps_per_execution": 2}], ids=str)
def test_inside_a_compiled_step_and_a_loop(compiling: dict[str, Any], clusters: list[str]) -> None:
    """A cluster may stand in a step that is compiled as a whole, and in a loop of steps."""
    fused, plain = (
        trained(keras.optimizers.SGD(0.1), WeightDecay(LAM, fused=fused), **compiling)
        for fused in (True, False)
    )
    assert relative_distance(fused, plain) < 1e-12
    assert "compiled" in clusters


@ON_TENSORFLOW
@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras, of an unknown length
def test_the_batch_that_never_comes_brings_no_decay(clusters: list[str]) -> None:
    """At the end of a dataset of unknown length the cluster waits for gradients that never come."""
    import tensorflow as tf

    model = dense_model()
    model.compile(keras.optimizers.SGD(0.25), mse, jit_compile=False)
    before = kernel(model)
    batch = np.zeros((4, 3), "float32"), np.zeros((4, 2), "float32")
    data = tf.data.Dataset.from_tensors(batch).repeat(3).filter(lambda x, y: True)
    model.fit(data, shuffle=False, verbose=0, callbacks=[WeightDecay(LAM, fused=True)])
    assert relative_distance(kernel(model), before * (1 - 0.25 * LAM) ** 3) < 1e-6
    assert clusters == ["compiled"]


@ON_TENSORFLOW
def test_a_loop_of_ones_own_has_it_too(clusters: list[str]) -> None:
    """`in_step` inside a tf.function compiles the update."""
    import tensorflow as tf

    model = dense_model()
    optimizer = keras.optimizers.SGD(0.25)
    before = kernel(model)
    with WeightDecay(LAM, fused=True).in_step(model, optimizer):
        step = tf.function(lambda grads: optimizer.apply(grads, model.trainable_variables))
        for _ in range(2):
            step([tf.zeros((3, 2))])
    assert relative_distance(kernel(model), before * (1 - 0.25 * LAM) ** 2) < 1e-6
    assert clusters == ["compiled"]


def calling(operation: Callable[[Any], Any]) -> type:
    """An SGD of the user's own that calls `operation` with every gradient."""

    class Own(keras.optimizers.SGD):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            operation(gradient)
            super().update_step(gradient, variable, learning_rate)

    return Own


def py_function(gradient: Any) -> None:
    import tensorflow as tf

    tf.py_function(lambda: None, [], [])


def noise(gradient: Any) -> None:
    import tensorflow as tf

    tf.random.normal(gradient.shape)


def check(gradient: Any) -> None:
    import tensorflow as tf

    tf.debugging.check_numerics(gradient, "a gradient")
    tf.debugging.assert_less(gradient, 9.0)


@ON_TENSORFLOW
@pytest.mark.parametrize("operation", [py_function, noise, check])
def test_what_xla_does_not_do_the_same_is_run_as_it_is(
    operation: Callable[[Any], Any], clusters: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The plain form is taken before a step has run, so that nothing is counted twice."""
    model = dense_model()
    optimizer = calling(operation)(0.25)
    model.compile(optimizer, mse, jit_compile=False)
    before = kernel(model)
    with caplog.at_level("INFO", "l2keras"):
        fit_zeros(model, STEPS, [WeightDecay(LAM, fused=True)])
    assert relative_distance(kernel(model), before * (1 - 0.25 * LAM) ** STEPS) < 1e-6
    assert int(optimizer.iterations) == STEPS
    assert clusters == ["plain"]
    assert "not compiled as a cluster" in caplog.text


def state() -> Any:
    """What the operations of a tf.random.Generator draw from."""
    import tensorflow as tf

    return tf.Variable([1, 2, 3], dtype=tf.int64).handle


def raw(name: str, **arguments: Any) -> None:
    import tensorflow as tf

    getattr(tf.raw_ops, name)(**arguments)


ROW = [0.0, 1.0]
STATEFUL = {"algorithm": 1, "shape": [3]}
DRAWING: dict[str, dict[str, Any]] = {
    "RandomUniform": {"shape": [3], "dtype": "float32"},
    "RandomStandardNormal": {"shape": [3], "dtype": "float32"},
    "RandomGamma": {"shape": [3], "alpha": ROW},
    "RandomPoissonV2": {"shape": [3], "rate": ROW},
    "RandomShuffle": {"value": ROW},
    "TruncatedNormal": {"shape": [3], "dtype": "float32"},
    "ParameterizedTruncatedNormal": {
        "shape": [3], "means": 0.0, "stdevs": 1.0, "minvals": -1.0, "maxvals": 1.0
    },
    "Multinomial": {"logits": [ROW], "num_samples": 3},
    "StatelessMultinomial": {"logits": [ROW], "num_samples": 3, "seed": [1, 2]},
    "StatelessTruncatedNormal": {"shape": [3], "seed": [1, 2]},
    "StatelessTruncatedNormalV2": {"shape": [3], "key": [1], "counter": [1, 2], "alg": 1},
    "StatelessRandomNormalV2": {"shape": [3], "key": [1], "counter": [1, 2], "alg": 1},
    "StatefulStandardNormalV2": STATEFUL,
    "StatefulTruncatedNormal": STATEFUL,
    "StatefulUniform": STATEFUL,
    "StatefulUniformInt": {**STATEFUL, "minval": 0, "maxval": 9},
}  # fmt: skip


@ON_TENSORFLOW
@pytest.mark.parametrize("name", DRAWING)
def test_whatever_draws_random_numbers_is_no_cluster(name: str) -> None:
    """Under XLA other numbers would come, from every operation of TensorFlow that draws some."""
    import tensorflow as tf

    arguments = dict(DRAWING[name])
    if name.startswith("Stateful"):
        arguments["resource"] = state()
    for key in arguments.keys() & {"key", "counter"}:
        arguments[key] = tf.constant(arguments[key], tf.uint64)
    function = tf.function(lambda: raw(name, **arguments), jit_compile=True, autograph=False)
    assert cluster.find_obstacle(function, []) == f"XLA does otherwise with {name}"


@ON_TENSORFLOW
def test_operations_of_a_model_are_not_taken_for_random_ones() -> None:
    """Products, convolutions and normalizations may stand in a cluster."""
    import tensorflow as tf

    def ordinary(x: Any) -> Any:
        x = tf.nn.conv2d(x, tf.ones((2, 2, 1, 1)), 1, "SAME")
        x, *_ = tf.compat.v1.nn.fused_batch_norm(x, [1.0], [0.0])
        return tf.nn.softmax(tf.reshape(x, (2, 9)) @ tf.ones((9, 3)))

    function = tf.function(ordinary, jit_compile=True, autograph=False)
    assert cluster.find_obstacle(function, [tf.TensorSpec((2, 3, 3, 1))]) is None


@ON_TENSORFLOW
def test_the_users_random_numbers_stay_what_they_are() -> None:
    """Asking XLA draws no number of TensorFlow's global generator."""
    import tensorflow as tf

    drawn = []
    for fused in (True, False):
        keras.utils.set_random_seed(0)
        trained(keras.optimizers.SGD(0.1), WeightDecay(LAM, fused=fused))
        drawn.append(tf.random.normal((3,)).numpy())
    assert np.array_equal(*drawn)


@ON_TENSORFLOW
def test_inside_a_strategy_of_one_replica_it_stays_plain(clusters: list[str]) -> None:
    """Keras merges replicas there, of one too, which a nested function does not allow."""
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = dense_model()
        model.compile(keras.optimizers.SGD(0.25), "mse", jit_compile=False)
    before = kernel(model)
    zeros = np.zeros((4, 3), "float32"), np.zeros((4, 2), "float32")
    model.fit(*zeros, batch_size=4, verbose=0, callbacks=[WeightDecay(LAM, fused=True)])
    assert relative_distance(kernel(model), before * (1 - 0.25 * LAM)) < 1e-6
    assert clusters == []


@ON_TENSORFLOW
@pytest.mark.parametrize("case", ["sparse", "eager", "bfloat16"])
def test_where_there_is_no_cluster_the_plain_form_is_taken(case: str, clusters: list[str]) -> None:
    """Sparse gradients, eager mode and 16-bit variables: decayed, and not by a cluster."""
    table = keras.layers.Embedding(5, 3, dtype="bfloat16" if case == "bfloat16" else None)
    model = keras.Sequential([keras.Input((2,), dtype="int32"), table, keras.layers.Flatten()])
    model.compile(keras.optimizers.SGD(0.25), mse, run_eagerly=case == "eager")
    table.embeddings.assign(np.ones((5, 3)))
    ids = np.zeros((4, 2), "int32")
    decay = WeightDecay(LAM, fused=True)
    model.fit(ids, model.predict(ids, verbose=0), batch_size=4, verbose=0, callbacks=[decay])
    last = keras.ops.convert_to_numpy(keras.ops.cast(table.embeddings[4], "float32"))
    assert np.allclose(last, 1 - 0.25 * LAM)
    assert clusters == []


LARGE = (1100, 1000)  # 4.4 MB


def large_model(hidden: Any) -> Any:
    """A large kernel between an embedding and a small kernel; without targets no gradient."""
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((2,), dtype="int32"), layers.Embedding(3, 550, embeddings_initializer="ones"),
         layers.Flatten(), hidden, layers.Dense(2, kernel_initializer="zeros")]
    )  # fmt: skip


@ON_TENSORFLOW
@pytest.mark.parametrize(
    ("fused", "expected"),
    [
        (None, ["compiled"]),  # of the large kernel
        (True, ["compiled", "compiled"]),  # another of the small ones
        (False, []),
    ],
)
def test_each_large_variable_has_a_cluster(
    fused: bool | None, expected: list[str], clusters: list[str]
) -> None:
    """By itself for 4 MB and more; sparse gradients stay plain; all of them are decayed."""
    hidden = keras.layers.Dense(LARGE[1], use_bias=False, kernel_initializer="ones")
    model = large_model(hidden)
    model.compile(keras.optimizers.SGD(0.25), "mse", jit_compile=False)
    data = np.zeros((4, 2), "int32"), np.zeros((4, 2), "float32")
    decay = WeightDecay(LAM, fused=fused)
    model.fit(*data, batch_size=2, shuffle=False, verbose=0, callbacks=[decay])
    for weights in model.get_weights()[:2]:
        assert np.allclose(weights, (1 - 0.25 * LAM) ** 2)
    assert clusters == expected


@ON_TENSORFLOW
def test_an_optimizer_of_ones_own_has_to_ask(clusters: list[str]) -> None:
    """Of large weights, too: what its operations mean under XLA is for its author to say."""
    model = large_model(keras.layers.Dense(LARGE[1], use_bias=False))
    model.compile(calling(lambda gradient: None)(0.25), "mse", jit_compile=False)
    data = np.zeros((4, 2), "int32"), np.zeros((4, 2), "float32")
    model.fit(*data, batch_size=2, verbose=0, callbacks=[WeightDecay(LAM)])
    assert clusters == []


@ON_TENSORFLOW
@pytest.mark.usefixtures("float64")
def test_callbacks_choose_for_their_own_group(clusters: list[str]) -> None:
    """One group is fused, the other declines: the weights are those of two plain groups."""

    def trained_with(first: bool) -> list[Any]:
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(3), keras.layers.Dense(4, name="head")]
        )
        model.compile(keras.optimizers.Adam(0.1), mse, jit_compile=False)
        groups = [WeightDecay(LAM, include="*head*", fused=first),
                  WeightDecay(LAM, exclude="*head*", fused=False)]  # fmt: skip
        fit(model, random_data(24, units=4), groups)
        return list(model.get_weights())

    for fused, plain in zip(trained_with(True), trained_with(False), strict=True):
        assert relative_distance(fused, plain) < 1e-12
    assert clusters == ["compiled"]


def test_bad_values_are_refused() -> None:
    """`fused` is True, False or None, and does not go together with lazy rows."""
    with pytest.raises(
        TypeError, match=r"`fused` must be True or False or None\. Received: fused='yes'"
    ):
        WeightDecay(LAM, fused="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`lazy` and `fused` do not go together"):
        WeightDecay(LAM, lazy=True, fused=True)
    decay = WeightDecay(LAM)
    decay.fused = "x"  # type: ignore[assignment]
    with pytest.raises(TypeError, match="`fused` must be"):
        trained(keras.optimizers.SGD(0.1), decay)
    assert "fused=True" in repr(WeightDecay(LAM, fused=True))
