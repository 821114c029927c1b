"""Steps on torch that are recorded: the operations of one, without the Python around them."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._sweep import programs
from l2keras._sweep.template import Template
from tests.helpers import BACKEND
from tests.sweeps import BATCH, EPOCHS, EXAMPLES, data, swept

pytestmark = pytest.mark.skipif(BACKEND != "torch", reason="other backends compile their steps")

STEPS = EPOCHS * (EXAMPLES // BATCH)  # with full batches; as many epochs have one with the rest
NEVER = STEPS + 1


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches for which Keras has been called in training, by vmap."""
    found: list[int] = []
    step = Template.train_step

    def counted(self: Any, trainable: Any, other: Any, metrics: Any, x: Any, y: Any) -> Any:
        found.append(len(x))
        return step(self, trainable, other, metrics, x, y)

    monkeypatch.setattr(Template, "train_step", counted)
    return found


@pytest.mark.parametrize("coupling", ["penalty", "decoupled"])
def test_a_recorded_step_does_the_same_to_the_last_bit(
    monkeypatch: pytest.MonkeyPatch, calls: list[int], coupling: str
) -> None:
    """Weights, losses and metrics; Keras is called for the first steps, and to record."""
    options: dict[str, Any] = {"coupling": coupling, "metrics": ["mae"], "seeds": (0, 1)}
    monkeypatch.setattr(programs, "RECORDED_AFTER", 3)
    recorded = swept((0.0, 0.5), **options)
    assert (calls.count(BATCH), calls.count(EXAMPLES % BATCH)) == (2 + 1, 2 + 1)
    calls.clear()
    monkeypatch.setattr(programs, "RECORDED_AFTER", NEVER)
    plain = swept((0.0, 0.5), **options)
    assert calls.count(BATCH) == STEPS
    for name, values in plain.history.items():
        np.testing.assert_array_equal(recorded.history[name], values, err_msg=name)
    for ours, theirs in zip(recorded.weights, plain.weights, strict=True):
        assert all(map(np.array_equal, ours, theirs))


def test_what_depends_on_numbers_is_not_recorded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Weights that are overwritten in every fourth step only: the log says so."""

    def train() -> Any:
        optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=4)
        return swept((0.0, 0.5), optimizer=optimizer)

    monkeypatch.setattr(programs, "RECORDED_AFTER", NEVER)
    plain = train()
    monkeypatch.setattr(programs, "RECORDED_AFTER", 1)
    with caplog.at_level(logging.INFO, "l2keras"):
        tried = train()
    assert "A step of torch is not recorded: RuntimeError: Exception encountered" in caplog.text
    np.testing.assert_array_equal(tried.history["loss"], plain.history["loss"])


def test_random_numbers_are_drawn_anew_in_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout without training: one batch an epoch, every epoch another loss, and member."""
    monkeypatch.setattr(programs, "RECORDED_AFTER", 1)

    def build() -> Any:
        layers = [keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
        return keras.Sequential(layers)

    result = l2keras.sweep(
        build, (0.0, 0.1), *data(), optimizer=keras.optimizers.SGD(0.0), loss="mse", epochs=6,
        batch_size=EXAMPLES, verbose=0,
    )  # fmt: skip
    assert len(np.unique(result.history["data_loss"])) == 12
