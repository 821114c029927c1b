"""A step of `sweep` that XLA compiles as a whole."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras import _squares
from l2keras._sweep import stacking, vectorize
from l2keras._sweep.feed import Feed
from tests.support import factorial
from tests.support.models import ON_TENSORFLOW, to_numpy
from tests.support.sweeps import BATCH, EPOCHS, alone, data, dense, distance, linear


@ON_TENSORFLOW
@pytest.mark.parametrize("coupling", factorial.sample(["penalty", "decoupled"], 1))
def test_a_step_as_one_cluster_does_what_fit_does(
    monkeypatch: pytest.MonkeyPatch, clusters: list[str], coupling: str
) -> None:
    """Compiled by XLA as a whole: each member as if alone, the last batch is a smaller one."""
    # 3 members of 50 weights: 10 steps with 4 examples pay, 5 with the last 3 do not
    monkeypatch.setattr(stacking, "BYTES_THAT_PAY", 3 * 4 * 50 * 10)
    assert EPOCHS == 5
    optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
    result = l2keras.sweep(
        dense, (0.0, 0.3, 0.9), *data(), optimizer=optimizer, loss="mse", metrics=["mae"],
        epochs=EPOCHS, batch_size=BATCH, coupling=coupling, verbose=0,
    )  # fmt: skip
    assert clusters == ["compiled"]  # of a step with 4 examples; the last, with 3, is no cluster
    for i, lam in enumerate((0.0, 0.3, 0.9)):
        optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
        model, history = alone(
            dense, data(), optimizer, lam=lam, coupling=coupling, metrics=["mae"]
        )
        assert distance(result.weights[i], model.get_weights()) < 1e-5
        assert np.allclose(result.history["loss"][i], history["loss"], rtol=1e-5)
        assert np.allclose(result.history["mae"][i], history["mae"], rtol=1e-5)


@ON_TENSORFLOW
def test_a_loss_that_xla_has_no_form_of_is_trained_all_the_same(
    monkeypatch: pytest.MonkeyPatch, clusters: list[str]
) -> None:
    """The step falls back to plain operations, and no update is lost or done twice."""
    import tensorflow as tf

    def loss(y_true: Any, y_pred: Any) -> Any:
        error = tf.math.special.dawsn(y_pred - y_true)
        return tf.reduce_mean(tf.square(error), axis=-1)

    monkeypatch.setattr(stacking, "BYTES_THAT_PAY", 0)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
    result = l2keras.sweep(
        dense, (0.0, 0.9), *data(), optimizer=optimizer, loss=loss, epochs=EPOCHS,
        batch_size=BATCH, verbose=0,
    )  # fmt: skip
    assert clusters == ["plain", "plain"]  # of 4 examples and of 3
    for i, lam in enumerate((0.0, 0.9)):
        optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
        model, _ = alone(dense, data(), optimizer, lam=lam, loss=loss)
        assert distance(result.weights[i], model.get_weights()) < 1e-5


def test_no_cluster_where_it_does_not_pay() -> None:
    """Few updates, one member, or layers that are not dense."""
    assert not stacking.pays_as_cluster(dense(), size=32, updates=10)
    assert not stacking.pays_as_cluster(dense(), size=1, updates=10**9)
    assert not stacking.pays_as_cluster(linear(), size=32, updates=10**9)


@pytest.mark.parametrize(("epochs", "widths"), [(1, []), (10, [4]), (20, [4, 3]), (10**6, [4, 3])])
@ON_TENSORFLOW
def test_a_remainder_is_a_cluster_where_it_comes_often(
    monkeypatch: pytest.MonkeyPatch, epochs: int, widths: list[int]
) -> None:
    """11 examples: two steps of 4 in an epoch, one of 3; 20 steps of 200 bytes pay."""
    monkeypatch.setattr(stacking, "BYTES_THAT_PAY", 2 * 200 * 20)
    feed = Feed(*data(), lambda member, epoch: np.arange(11), lambda member: 0, BATCH)
    assert feed.steps(11) == {4: 2, 3: 1}
    assert stacking.clusters(dense(), 2, feed.steps(11), epochs) == widths


@pytest.mark.parametrize("lanes", [1, _squares.LANES])
def test_the_squares_of_each_member_are_its_own(lanes: int) -> None:
    """Of large weights, which are added in lanes, and of small ones, which are not."""
    generator = np.random.default_rng(0)
    shapes = [(64, vectorize.LARGE // 64), (5, vectorize.LARGE // 4 + 1), (3, 2)]
    scale = np.arange(1, 4)[:, None, None]
    values = [(scale * generator.normal(size=(3, *s))).astype("float32") for s in shapes]
    norms = vectorize.half_squared_norms([keras.ops.convert_to_tensor(v) for v in values], lanes)
    expected = sum(np.square(v.astype("float64")).sum(axis=(1, 2)) for v in values) / 2
    np.testing.assert_allclose(to_numpy(norms), expected, rtol=1e-6)
