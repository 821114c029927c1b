"""WeightDecay as a callback: arguments, schedules, groups, logs, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import HalfL2, WeightDecay
from tests.support.models import (
    BACKEND,
    dense_model,
    fit_zeros,
    kernel,
    mse,
    relative_distance,
    to_numpy,
)

ETA, LAM = 0.5, 0.25


def compiled(**optimizer: Any) -> Any:
    """A linear layer under SGD with learning rate 0.5."""
    model = dense_model()
    model.compile(keras.optimizers.SGD(ETA, **optimizer), mse)
    return model


@pytest.mark.parametrize("lam", [True, "0.1", -0.1, float("nan"), float("inf"), None, 1j, [0.1]])
def test_a_bad_lam_is_refused_at_construction(lam: Any) -> None:
    """What cannot be a coefficient raises, with what was expected and what came."""
    with pytest.raises((TypeError, ValueError), match=r"`lam` must be .*Received: lam="):
        WeightDecay(lam)


def test_a_bad_coupling_names_the_nearest() -> None:
    """A mistyped coupling raises with the nearest of the three."""
    with pytest.raises(ValueError, match=r"Did you mean .decoupled.\?"):
        WeightDecay(LAM, coupling="decoupeld")


@pytest.mark.parametrize("peak", [0.0, -1.0, float("nan")])
def test_a_bad_peak_is_refused(peak: float) -> None:
    """The peak of the learning rate is a positive float."""
    with pytest.raises(ValueError, match="`peak_learning_rate` must be"):
        WeightDecay(LAM, coupling="independent", peak_learning_rate=peak)


def test_a_peak_belongs_to_independent() -> None:
    """peak_learning_rate with another coupling raises."""
    with pytest.raises(ValueError, match='belongs to coupling="independent"'):
        WeightDecay(LAM, peak_learning_rate=1.0)


def test_include_of_another_type_is_refused_at_construction() -> None:
    """Patterns that are no patterns raise when the callback is made, not in mid fit."""
    with pytest.raises(TypeError, match="`include` must be a glob pattern"):
        WeightDecay(LAM, include=3)  # type: ignore[arg-type]  # what is tested


def test_its_repr_is_how_to_write_it() -> None:
    """The repr shows lam, coupling and what else was given."""
    assert repr(WeightDecay(0.1, coupling="coupled")) == "WeightDecay(0.1, coupling='coupled')"
    decay = WeightDecay(0.1, cautious=True, include="*/kernel")
    assert repr(decay) == (
        "WeightDecay(0.1, coupling='decoupled', include='*/kernel', cautious=True)"
    )


def halving(step: Any) -> Any:
    """lam of the step, halved at each."""
    return LAM * 0.5**step


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "lam", [halving, keras.optimizers.schedules.ExponentialDecay(LAM, 1, 0.5)], ids=["own", "Keras"]
)
@pytest.mark.parametrize("accumulation", [None, 2])
def test_lam_of_the_step(lam: Any, accumulation: int | None) -> None:
    """lam is taken at the count of updates inside the step, and logged for the last of them."""
    model = compiled(gradient_accumulation_steps=accumulation)
    before = kernel(model)
    logs = fit_zeros(model, 3 * (accumulation or 1), [WeightDecay(lam)], epochs=2)
    factor = np.prod([1 - ETA * LAM * 0.5**step for step in range(6)])
    assert relative_distance(kernel(model), before * factor) < 1e-12
    assert logs["weight_decay"] == pytest.approx([LAM / 4, LAM / 32])
    assert logs["decay_per_step"] == pytest.approx([ETA * LAM / 4, ETA * LAM / 32])


def test_a_schedule_of_lam_does_not_retrace() -> None:
    """The schedule is part of the compiled step: it is called while tracing and not again."""
    if BACKEND == "torch":
        pytest.skip("Keras on torch runs the step in Python every time")
    calls: list[Any] = []

    def lam(step: Any) -> Any:
        calls.append(step)
        return LAM * 0.5**step

    model = compiled()
    model.compile(keras.optimizers.SGD(ETA), mse, jit_compile=True)
    fit_zeros(model, 4, [WeightDecay(lam)], epochs=1)
    traced = len(calls)
    fit_zeros(model, 4, [decay := WeightDecay(lam)], epochs=5)
    again = len(calls) - traced
    assert again <= traced + 8  # one more log and one more check an epoch, and no more tracing
    assert float(to_numpy(model.optimizer.iterations)) == 24
    assert decay.lam is lam


@pytest.mark.usefixtures("float64")
def test_a_schedule_of_lam_resumes_by_itself(tmp_path: Path) -> None:
    """A saved and loaded model goes on where the schedule stood."""
    straight = compiled()
    fit_zeros(straight, 6, [WeightDecay(halving)])
    stopped = compiled()
    fit_zeros(stopped, 2, [WeightDecay(halving)])
    stopped.save(tmp_path / "model.keras")
    resumed = keras.models.load_model(tmp_path / "model.keras")
    fit_zeros(resumed, 4, [WeightDecay(halving)])
    assert relative_distance(kernel(resumed), kernel(straight)) < 1e-12


@pytest.mark.usefixtures("float64")
def test_groups_have_their_own_lam() -> None:
    """Several callbacks decay their groups each with its lam, and log under their own names."""
    layers = [keras.layers.Dense(3, use_bias=False, name=name) for name in ("first", "second")]
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1, name="third")])
    model.compile(keras.optimizers.SGD(ETA), mse)
    before = model.get_weights()
    logs = fit_zeros(
        model,
        4,
        [
            WeightDecay(0.25, include="*first/*"),
            WeightDecay(0.5, include=lambda v: "second" in v.path, coupling="coupled"),
        ],
    )
    after = model.get_weights()
    assert relative_distance(after[0], before[0] * (1 - 0.125) ** 4) < 1e-12
    assert relative_distance(after[1], before[1] * (1 - 0.25) ** 4) < 1e-12
    np.testing.assert_array_equal(after[2], before[2])
    assert logs["weight_decay"] == [0.25]
    assert logs["weight_decay_2"] == [0.5]
    assert logs["decay_per_step_2"] == [0.25]


def test_groups_that_overlap_raise_and_leave_nothing() -> None:
    """Two callbacks for one variable raise with its path; the next fit decays nothing."""
    model = compiled()
    before = kernel(model)
    with pytest.raises(ValueError, match=r"one WeightDecay.*dense/kernel"):
        fit_zeros(model, 1, [WeightDecay(LAM), WeightDecay(LAM, include="*kernel")])
    fit_zeros(model, 1)
    np.testing.assert_array_equal(kernel(model), before)


def test_a_pattern_that_matches_nothing_raises_when_fit_begins() -> None:
    """A mistyped pattern raises before the first step, with the nearest path."""
    model = compiled()
    with pytest.raises(ValueError, match=r"include='\*kernle'.*nearest paths are: .*dense/kernel"):
        fit_zeros(model, 1, [WeightDecay(LAM, include="*kernle")])


def test_a_learning_rate_that_a_callback_changes_is_followed() -> None:
    """decay_per_step follows the learning rate of each epoch."""
    model = compiled()
    rates = [0.5, 0.25]
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch])
    logs = fit_zeros(model, 2, [scheduler, WeightDecay(LAM)], epochs=2)
    assert logs["decay_per_step"] == [0.125, 0.0625]
    assert logs["weight_decay"] == [LAM, LAM]


@pytest.mark.usefixtures("float64")
def test_checkpoints_made_during_training_load(tmp_path: Path) -> None:
    """What ModelCheckpoint and BackupAndRestore write during a decayed fit loads and goes on."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                raise KeyboardInterrupt

    path = tmp_path / "{epoch}.keras"
    backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    model = compiled()
    before = kernel(model)
    checkpoint = keras.callbacks.ModelCheckpoint(str(path))
    with pytest.raises(KeyboardInterrupt):
        fit_zeros(model, 2, [WeightDecay(LAM), checkpoint, backup, Stop()], epochs=4)
    loaded = keras.models.load_model(tmp_path / "2.keras")
    np.testing.assert_array_equal(kernel(loaded), kernel(model))
    assert loaded.optimizer.weight_decay is None
    fresh = compiled()
    backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    fit_zeros(fresh, 2, [WeightDecay(LAM), backup], epochs=4)
    assert relative_distance(kernel(fresh), before * (1 - ETA * LAM) ** 8) < 1e-12


def test_an_optimizer_with_an_update_of_its_own_is_told() -> None:
    """An optimizer that never runs Keras' update is not passed over in silence."""

    class Own(keras.optimizers.SGD):
        def _backend_apply_gradients(self, grads: Any, trainable_variables: Any) -> None:
            """Applies nothing."""

    model = dense_model()
    model.compile(Own(ETA), mse)
    with pytest.raises(RuntimeError, match="optimizer=Own"):
        fit_zeros(model, 1, [WeightDecay(LAM)])


@pytest.mark.parametrize("lam", [HalfL2(0.1), keras.regularizers.L2(0.1), HalfL2, float])
def test_a_regularizer_is_not_taken_for_a_schedule(lam: Any) -> None:
    """A regularizer, or a class, in the place of lam raises with the coefficient to pass."""
    with pytest.raises(TypeError, match="Pass the coefficient itself"):
        WeightDecay(lam)


def test_a_model_without_an_optimizer_is_told() -> None:
    """A model compiled without an optimizer raises with the remedy."""
    model = dense_model()
    model.compile(None, mse)
    with pytest.raises(ValueError, match="compiled without one"):
        fit_zeros(model, 1, [WeightDecay(LAM)])


@pytest.mark.parametrize("value", [-1.0, float("nan"), "0.1", [0.1, 0.2]])
def test_what_a_callable_returns_is_checked(value: Any) -> None:
    """A callable of the step that returns no coefficient raises when fit begins."""
    with pytest.raises((TypeError, ValueError), match="A callable of the step must return one"):
        fit_zeros(compiled(), 1, [WeightDecay(lambda step: value)])
