"""`sweep` as a whole: groups, Ctrl-C, dropout, structures."""

from __future__ import annotations

import os
import signal
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._sweep import loops, memory, programs, stacking
from tests.support.models import BACKEND, mse
from tests.support.sweeps import (
    BATCH,
    EPOCHS,
    LAMS,
    SIZE,
    alone,
    data,
    distance,
    expected,
    linear,
    swept,
)


def test_groups_that_fit_a_budget_do_what_one_group_does() -> None:
    """Groups of 2, and a last one of 1: each member equals its own `fit`; a note says so."""
    one = memory.bytes_per_member(linear(), keras.optimizers.SGD(0.1, momentum=0.5), BATCH)
    result = swept(SIZE.lams, memory_budget=2 * one + 1)
    megabytes = f"of {one / 2**20:.2g} MB each in a budget of {2 * one / 2**20:.2g} MB"
    assert result.notes == (f"{len(SIZE.lams)} members, 2 at once, {megabytes}",)
    for i in (1, -1):
        model, _ = expected(SIZE.lams[i])
        assert distance(result.weights[i], model.get_weights()) < 1e-5


def test_steps_are_apart_for_convolutions_on_jax() -> None:
    """Dense layers, and other backends, stay in one program."""
    convolution = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(1, 2)])
    on_cpu = BACKEND == "jax" and not memory.on_gpu()
    assert stacking.steps_apart(convolution) is on_cpu
    assert not stacking.steps_apart(linear())


@pytest.mark.skipif(BACKEND != "jax", reason="a choice that is JAX's")
def test_steps_apart_do_what_a_loop_of_steps_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 3 steps, the last one padded: the steps that are not asked for change nothing."""
    monkeypatch.setattr(programs, "CHUNK", 3)
    options: dict[str, Any] = {"batch_size": 2, "seeds": (0, 1)}  # 5 full batches and a rest of 1
    looped = swept((0.1, 0.6), **options)
    monkeypatch.setattr(stacking, "steps_apart", lambda model: True)
    apart = swept((0.1, 0.6), **options)
    for a, b in zip(apart.weights, looped.weights, strict=True):
        assert distance(a, b) < 1e-6


def test_the_same_call_gives_the_same_result() -> None:
    """Twice with the same seeds, and the user's own random numbers between."""
    first = swept((0.1, 0.6), seeds=(3, 4))
    keras.utils.set_random_seed(99)
    second = swept((0.1, 0.6), seeds=(3, 4))
    for a, b in zip(first.weights, second.weights, strict=True):
        assert distance(a, b) == 0
    assert distance(first.weights[0], first.weights[1]) > 0.01


def test_what_is_interrupted_returns_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second epoch of the second group: that has one epoch, the third none."""
    one = memory.bytes_per_member(linear(), keras.optimizers.SGD(0.1, momentum=0.5), BATCH)
    calls = []
    step = loops.Loop.__call__

    def counted(self: Any, indices: Any, pool: Any) -> None:
        step(self, indices, pool)
        calls.append(len(indices))
        now = sum(calls)
        if now > 3 * EPOCHS + 3 >= now - len(indices):  # 3 batches an epoch, see its support
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loops.Loop, "__call__", counted)
    result = swept(LAMS, memory_budget=2 * one + 1)
    assert result.status == ("finished", "finished", "interrupted", "interrupted", "waiting")
    assert result.notes[-1] == "interrupted"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    model, _ = expected(LAMS[1])
    assert distance(result.weights[1], model.get_weights()) < 1e-5
    assert [row["epoch"] for row in result.table() if row["member"] == 2] == [0]
    keras.utils.set_random_seed(0)
    assert distance(result.weights[4], linear().get_weights()) == 0


def test_an_interruption_from_elsewhere_is_heard_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyboardInterrupt out of the progress bar: the first epoch is there."""

    def interrupt(self: Any, *args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.utils.Progbar, "add", interrupt)
    result = swept((0.0, 0.6))
    assert result.status == ("interrupted", "interrupted")
    model, _ = expected(0.6, epochs=1)
    assert distance(result.weights[1], model.get_weights()) < 1e-5


def with_dropout() -> Any:
    return keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(8), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    )


@pytest.mark.skipif(BACKEND == "torch", reason="torch's dropout takes no seed: see the next test")
def test_dropout_draws_the_masks_of_fit() -> None:
    """With each seed the weights are those of `fit`."""
    result = l2keras.sweep(
        with_dropout, (0.0, 0.6), *data(), optimizer=keras.optimizers.SGD(0.1), loss=mse,
        batch_size=BATCH, epochs=EPOCHS, seeds=(0, 1), verbose=0,
    )  # fmt: skip
    sgd = keras.optimizers.SGD(0.1)
    model, _ = alone(with_dropout, data(), sgd, lam=0.6, seed=1, loss=mse)
    assert distance(result.weights[3], model.get_weights()) < 1e-5


@pytest.mark.parametrize("seed", [None, 7])
def test_dropout_keeps_what_it_should_on_average(seed: int | None) -> None:
    """Of ones, dropout of 1/4 keeps 3/4, other ones for each member and step."""

    def build() -> Any:
        drop = keras.layers.Dropout(0.25, seed=seed)
        dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        return keras.Sequential([keras.Input((1000,)), drop, dense])

    ones = np.ones((1, 1000), "float32")
    # one step of size 1/2 on (w x - 1) ** 2 from zero: the weight is the mask / (3/4)
    result = l2keras.sweep(
        build, (0.0, 0.1), ones, ones[:, :1], optimizer=keras.optimizers.SGD(0.5), loss=mse,
        coupling="coupled", seeds=(0, 1), verbose=0,
    )  # fmt: skip
    masks = [weights[0][:, 0] for weights in result.weights]
    for mask in masks:
        assert {round(float(value), 4) for value in mask} == {0.0, 1.3333}
        assert np.mean(mask > 0) == pytest.approx(0.75, abs=0.06)
    assert seed is not None or np.any(masks[0] != masks[1])


def test_several_inputs_and_outputs_by_name() -> None:
    """A model of dictionaries is trained as `fit` trains it."""

    def build() -> Any:
        a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
        hidden = keras.layers.Dense(4, activation="tanh")(keras.layers.Concatenate()([a, b]))
        outputs = {name: keras.layers.Dense(2, name=name)(hidden) for name in ("p", "q")}
        return keras.Model({"a": a, "b": b}, outputs)

    x, y = data()
    inputs, targets = {"a": x, "b": y}, {"p": y, "q": x[:, :2]}
    loss = {"p": "mse", "q": "mae"}
    metrics = {"p": ["mae"], "q": ["mse"]}
    result = l2keras.sweep(
        build, (0.0, 0.6), inputs, targets, optimizer=keras.optimizers.SGD(0.1), loss=loss,
        metrics=metrics, epochs=EPOCHS, batch_size=BATCH, verbose=0,
    )  # fmt: skip

    model, history = alone(
        build, (inputs, targets), keras.optimizers.SGD(0.1), lam=0.6, loss=loss, metrics=metrics
    )
    assert distance(result.weights[1], model.get_weights()) < 1e-5
    for name in ("loss", "p_mae", "q_mse"):
        assert result.history[name][1] == pytest.approx(history[name], rel=1e-4)
