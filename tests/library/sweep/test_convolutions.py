"""Convolutions, which JAX does not stack on a CPU."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._sweep import memory, stacking
from tests.support import factorial
from tests.support.models import BACKEND
from tests.support.sweeps import BATCH, SIZE, dense, distance, momentum, reference


def convolution() -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Conv2D(2, 2), layers.Flatten(), layers.Dense(2)]
    )


def images() -> tuple[Any, Any]:
    x = np.random.default_rng(0).normal(size=(11, 4, 4, 1)).astype("float32")
    return x, x[:, 0, :2, 0]


@pytest.mark.parametrize(
    ("build", "on_jax", "elsewhere"), [(dense, (32, 8), (32, 32)), (convolution, (4, 1), (32, 32))]
)
def test_what_is_not_compiled_by_xla_stays_in_one_stack(
    monkeypatch: pytest.MonkeyPatch, build: Any, on_jax: Any, elsewhere: Any
) -> None:
    """TensorFlow's and torch's operations use all cores. JAX's convolutions are not stacked."""
    monkeypatch.setattr(memory, "cores", lambda: 4)
    monkeypatch.setattr(memory, "on_gpu", lambda: False)
    most, why = stacking.most_at_once(build())
    found = most, stacking.stack_size(build(), most, [])
    assert found == (on_jax if BACKEND == "jax" else elsewhere)
    assert bool(why) == (most == 4)
    _, note = stacking.group_size(build(), momentum(), 5, BATCH, None)  # three, then two
    assert ("3 at once, each on a core" in note) == bool(why)
    _, note = stacking.group_size(build(), momentum(), 5, BATCH, 1)
    assert note.startswith("5 members, 1 at once, of ")


@pytest.mark.parametrize("cores", factorial.sample([2, 1], 1))
def test_convolutions_are_trained_as_if_alone(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    """On JAX each is a stack of its own: two of three side by side, the third after them."""
    monkeypatch.setattr(memory, "cores", lambda: cores)
    result = l2keras.sweep(
        convolution, SIZE.lams[:3], *images(), optimizer=momentum(), loss="mse", metrics=["mae"],
        epochs=2, batch_size=BATCH, validation_data=images(), verbose=0,
    )  # fmt: skip
    for i, lam in enumerate(SIZE.lams[:3]):
        weights, history = reference(
            convolution, images, momentum, lam=lam, metrics=("mae",), epochs=2, validated=True
        )
        assert distance(result.weights[i], weights) < 1e-5
        assert np.allclose(result.history["val_mae"][i], history["val_mae"], rtol=1e-4, atol=0)
