"""attach: the penalty acts at once, in every copy of the model too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from l2keras import HalfL2, WeightDecay, attach, detach
from tests.support.attachments import (
    ETA,
    FACTOR,
    LAM,
    compiled,
    copies,
    half_squares,
    one_step,
    penalty,
    regularized,
    shrinkage,
)
from tests.support.models import BACKEND, dense_model, fit_zeros, kernel


def is_affordable(cell: Mapping[str, Any]) -> bool:
    """Whether it takes less than some seconds: JAX without jit compiles each operation alone."""
    return BACKEND != "jax" or cell["jit"] is True


@pytest.mark.factorial(jit=[False, True], affordable=is_affordable)
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
