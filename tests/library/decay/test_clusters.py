"""What becomes an XLA cluster of a fused update, and what stays plain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import WeightDecay
from l2keras._keras import cluster
from tests.support.models import (
    ON_TENSORFLOW,
    dense_model,
    fit_zeros,
    kernel,
    mse,
    relative_distance,
)
from tests.support.optimizers import LAM, UPDATES, trained


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
        fit_zeros(model, UPDATES, [WeightDecay(LAM, fused=True)])
    assert relative_distance(kernel(model), before * (1 - 0.25 * LAM) ** UPDATES) < 1e-6
    assert int(optimizer.iterations) == UPDATES
    assert clusters == ["plain"]
    assert "Not compiled as a cluster" in caplog.text


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
