"""`sweep` against `fit`: optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from keras import optimizers

import l2keras
from tests.support.models import BACKEND, mse
from tests.support.sweeps import (
    BATCH,
    EPOCHS,
    data,
    distance,
    full_batches,
    linear,
    reference,
)

pytestmark = pytest.mark.usefixtures("float64")

LAM = 0.6
TOLERANCE = 1e-10
# On torch the update of `fit` is float64; the plain one of Keras takes these maxima in float32.
FLOAT32_MAXIMUM = ("amsgrad", "Adamax") if BACKEND == "torch" else ()

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "SGD": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.5),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.5, nesterov=True),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.2),
    "loss scale": lambda: optimizers.SGD(0.1, loss_scale_factor=8.0),
    "average": lambda: optimizers.SGD(0.1, use_ema=True, ema_momentum=0.7),
    "overwritten by the average": lambda: optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=2
    ),
    "accumulation": lambda: optimizers.SGD(0.1, momentum=0.5, gradient_accumulation_steps=2),
    "Adam": lambda: optimizers.Adam(0.05),
    "amsgrad": lambda: optimizers.Adam(0.05, amsgrad=True),
    "AdamW": lambda: optimizers.AdamW(0.05, weight_decay=0.0),
    "Adamax": lambda: optimizers.Adamax(0.05),
    "Nadam": lambda: optimizers.Nadam(0.05),
    "RMSprop": lambda: optimizers.RMSprop(0.05),
    "centered": lambda: optimizers.RMSprop(0.05, momentum=0.5, centered=True),
    "Adagrad": lambda: optimizers.Adagrad(0.1),
    "Adadelta": lambda: optimizers.Adadelta(1.0),
    "Ftrl": lambda: optimizers.Ftrl(0.1),
    "Lion": lambda: optimizers.Lion(0.02),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_elementwise_optimizer(name: str, request: pytest.FixtureRequest) -> None:
    """With each, a member ends where `fit` ends, and the optimizer passed is not changed."""
    coupling = ("penalty", "coupled", "decoupled")[list(OPTIMIZERS).index(name) % 3]
    coupling = "coupled" if name == "Ftrl" else coupling
    # Four steps in the fast tier. With --full, the last batch is a smaller one, too.
    full = request.config.getoption("full")
    examples, epochs = (data, EPOCHS) if full else (full_batches, 2)
    optimizer = OPTIMIZERS[name]()
    result = l2keras.sweep(
        linear, [0.0, LAM], *examples(), optimizer=optimizer, loss=mse, batch_size=BATCH,
        epochs=epochs, coupling=coupling, verbose=0,
    )  # fmt: skip
    assert not optimizer.built
    weights, history = reference(
        linear, examples, OPTIMIZERS[name], lam=LAM, coupling=coupling, loss=mse, epochs=epochs
    )
    tolerance = 1e-7 if name in FLOAT32_MAXIMUM else TOLERANCE
    assert distance(result.weights[1], weights) < tolerance
    assert distance(result.weights[0], weights) > 1e-4
    assert result.history["loss"][1] == pytest.approx(history["loss"], rel=1e-6)
