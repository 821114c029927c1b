"""`WeightDecay(fused=)`: update and decay as one XLA cluster, equal to the plain form."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import WeightDecay
from tests.support import factorial
from tests.support.models import (
    BACKEND,
    ON_TENSORFLOW,
    dense_model,
    fit,
    fit_zeros,
    kernel,
    mse,
    random_data,
    relative_distance,
)
from tests.support.optimizers import LAM, NOT_DECOUPLED, OPTIMIZERS, UPDATES, build, trained


@cache
def trained_without_decay() -> Any:
    """The same under Adam, float64, with no decay."""
    return trained(keras.optimizers.Adam(0.1), keras.callbacks.Callback())


FORMS: dict[str, dict[str, Any]] = {
    "decoupled": {},
    "coupled": {"coupling": "coupled"},
    "independent": {"coupling": "independent"},
    "cautious": {"cautious": True},
    "stable": {"stable": True},
    "toward": {"toward": "init"},
    "schedule": {"lam": keras.optimizers.schedules.CosineDecay(LAM, 2 * UPDATES)},
    "callable": {"lam": lambda step: LAM / (1 + step)},
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("form", factorial.sample(FORMS, 4))
def test_every_form_is_equal_fused_and_plain(
    form: str, clusters: list[str], quick: dict[str, Any]
) -> None:
    """Under Adam the weights agree to 1e-12; on TensorFlow they came from a cluster.

    Stable decay needs the moments of all variables, and stays plain.
    """
    arguments = {"lam": LAM, **FORMS[form]}
    fused, plain = (
        trained(keras.optimizers.Adam(0.1), WeightDecay(**arguments, fused=fused), **compiling)
        for fused, compiling in ((True, {}), (False, quick))
    )
    assert relative_distance(fused, plain) < 1e-12
    assert relative_distance(fused, trained_without_decay()) > 1e-3
    assert clusters == ["compiled"] * (BACKEND == "tensorflow" and form != "stable")


@ON_TENSORFLOW
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", factorial.sample(OPTIMIZERS, 7))
def test_every_optimizer_is_equal_fused_and_plain(
    name: str, clusters: list[str], quick: dict[str, Any]
) -> None:
    """XLA has a form of every optimizer of Keras; Nadam updates all variables together."""
    coupling = "coupled" if name in NOT_DECOUPLED else "decoupled"
    # Keras' own ScheduleFreeAdamW trains to other weights with run_eagerly
    plainly = {} if name == "ScheduleFreeAdamW" else quick
    fused, plain = (
        trained(build(name), WeightDecay(LAM, coupling=coupling, fused=fused), **compiling)
        for fused, compiling in ((True, {}), (False, plainly))
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
    fit_zeros(model, UPDATES, [WeightDecay(LAM, fused=True)])
    assert relative_distance(kernel(model), before * (1 - 0.25 * LAM) ** UPDATES) < 1e-12
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
def test_what_keras_does_around_an_update_stays(
    setting: str, clusters: list[str], quick: dict[str, Any]
) -> None:
    """Clipping, averages, accumulation, schedules and loss scaling act outside of the cluster."""
    fused, plain = (
        trained(SETTINGS[setting](), WeightDecay(LAM, fused=fused), **compiling)
        for fused, compiling in ((True, {}), (False, quick))
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
