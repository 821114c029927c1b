"""Steps on torch that are recorded: the operations of one, without the Python around them."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._sweep import programs, recording
from l2keras._sweep.template import Template
from tests.support.models import BACKEND
from tests.support.sweeps import BATCH, EPOCHS, EXAMPLES, data, swept

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
    assert (calls.count(BATCH), calls.count(EXAMPLES % BATCH)) == (2 + 4, 2 + 4)
    calls.clear()
    monkeypatch.setattr(programs, "RECORDED_AFTER", NEVER)
    plain = swept((0.0, 0.5), **options)
    assert calls.count(BATCH) == STEPS
    for name, values in plain.history.items():
        np.testing.assert_array_equal(recorded.history[name], values, err_msg=name)
    for ours, theirs in zip(recorded.weights, plain.weights, strict=True):
        assert all(map(np.array_equal, ours, theirs))


class OfNumPy(keras.optimizers.schedules.LearningRateSchedule):
    """Takes the number of the step out of torch."""

    def __call__(self, step: Any) -> Any:
        return 0.1 * 0.8 ** int(keras.ops.convert_to_numpy(step))

    def get_config(self) -> dict[str, Any]:
        return {}


class Counting(keras.optimizers.schedules.LearningRateSchedule):
    """Another rate at every call, whatever the step is."""

    calls = 0

    def __call__(self, step: Any) -> Any:
        Counting.calls += 1
        return 0.1 / Counting.calls

    def get_config(self) -> dict[str, Any]:
        return {}


def positive_error(y_true: Any, y_pred: Any) -> Any:
    """Over the targets that are positive, as many as they are."""
    return keras.ops.mean(((y_true - y_pred) ** 2)[y_true > 0])


def now_and_then() -> Any:
    return keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=4)


@pytest.mark.parametrize(
    ("why", "options"),
    [
        ("_local_scalar_dense", lambda: {"optimizer": now_and_then()}),
        ("numpy() is not supported", lambda: {"optimizer": keras.optimizers.SGD(OfNumPy())}),
        ("aten.nonzero", lambda: {"loss": positive_error}),
    ],
)
def test_what_depends_on_numbers_is_not_recorded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, why: str, options: Any
) -> None:
    """It would have those of one batch for good; the log says so, and all is as without."""
    monkeypatch.setattr(programs, "RECORDED_AFTER", NEVER)
    plain = swept((0.0, 0.5), **options())
    monkeypatch.setattr(programs, "RECORDED_AFTER", 2)
    with caplog.at_level(logging.INFO, "l2keras"):
        tried = swept((0.0, 0.5), **options())
    assert "A step of torch is not recorded" in caplog.text
    assert why in caplog.text
    np.testing.assert_array_equal(tried.history["loss"], plain.history["loss"])
    for ours, theirs in zip(tried.weights, plain.weights, strict=True):
        assert all(map(np.array_equal, ours, theirs))


def test_python_that_counts_is_noticed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, calls: list[int]
) -> None:
    """A recorded step that does something else than the next plain one is not taken."""
    monkeypatch.setattr(programs, "RECORDED_AFTER", 2)
    with caplog.at_level(logging.INFO, "l2keras"):
        swept((0.0, 0.5), optimizer=keras.optimizers.SGD(Counting()))
    assert "it does something else in another step" in caplog.text
    assert calls.count(BATCH) == STEPS + 4  # four to record it


def test_long_steps_are_not_recorded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, calls: list[int]
) -> None:
    """Where it would take longer than is saved: found out while the operations are counted."""
    monkeypatch.setattr(programs, "RECORDED_AFTER", 2)
    monkeypatch.setattr(recording, "MOST", 100)
    with caplog.at_level(logging.INFO, "l2keras"):
        swept((0.0, 0.5))
    assert "it has more than 100 operations" in caplog.text
    assert calls.count(BATCH) == STEPS + 1


def test_what_a_signal_raises_while_a_step_is_recorded_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes on to the user; the log of why a step is not recorded is for torch's errors."""

    class Stop(Exception):
        pass

    def stopped(*arguments: Any) -> Any:
        raise Stop

    monkeypatch.setattr(recording, "_operations", stopped)
    with pytest.raises(Stop):
        swept((0.0, 0.5))


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
