"""`sweep` against `fit`: optimizers."""

from __future__ import annotations

import pytest

import l2keras
from tests.support import factorial
from tests.support.models import BACKEND, mse
from tests.support.sweeps import (
    BATCH,
    OPTIMIZERS,
    SIZE,
    distance,
    linear,
    reference,
    sized_data,
)

pytestmark = pytest.mark.usefixtures("float64")

LAM = 0.6
TOLERANCE = 1e-10
# On torch the update of `fit` is float64; the plain one of Keras takes these maxima in float32.
FLOAT32_MAXIMUM = ("amsgrad", "Adamax") if BACKEND == "torch" else ()


@pytest.mark.parametrize("name", factorial.sample(OPTIMIZERS, 6))
def test_every_elementwise_optimizer(name: str) -> None:
    """With each, a member ends where `fit` ends, and the optimizer passed is not changed."""
    coupling = ("penalty", "coupled", "decoupled")[list(OPTIMIZERS).index(name) % 3]
    coupling = "coupled" if name == "Ftrl" else coupling
    optimizer = OPTIMIZERS[name]()
    result = l2keras.sweep(
        linear, [0.0, LAM], *sized_data(), optimizer=optimizer, loss=mse, batch_size=BATCH,
        epochs=SIZE.epochs, coupling=coupling, verbose=0,
    )  # fmt: skip
    assert not optimizer.built
    weights, history = reference(
        linear, sized_data, OPTIMIZERS[name], lam=LAM, coupling=coupling, loss=mse,
        epochs=SIZE.epochs,
    )  # fmt: skip
    tolerance = 1e-7 if name in FLOAT32_MAXIMUM else TOLERANCE
    assert distance(result.weights[1], weights) < tolerance
    assert distance(result.weights[0], weights) > 1e-4
    assert result.history["loss"][1] == pytest.approx(history["loss"], rel=1e-6)
