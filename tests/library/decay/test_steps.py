"""What else happens inside a Keras step: clipping, loss scaling, averages, constraints, sparsity.

Expected trajectories are written out in NumPy.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from l2keras import WeightDecay
from l2keras._keras import optimizers
from tests.support.models import (
    BACKEND,
    dense_model,
    fit,
    fit_zeros,
    kernel,
    linear_gradient,
    mse,
    random_data,
    relative_distance,
    to_numpy,
)

ETA, LAM = 0.5, 0.125
STEPS, BATCH_SIZE = 50, 4
# On torch Keras clips gradients and constrains weights in float32, whatever their dtype.
TOLERANCE = 1e-6 if BACKEND == "torch" else 1e-12


def decayed_step(weight: Any, gradient: Any, coupling: str) -> Any:
    """One step of SGD: both couplings are the same there, computed as each is defined."""
    if coupling == "coupled":
        return weight - ETA * (gradient + LAM * weight)
    return (1 - ETA * LAM) * weight - ETA * gradient


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("coupling", ["decoupled", "coupled"])
@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_the_data_gradient_is_clipped_and_the_decay_is_not(clip: str, coupling: str) -> None:
    """The gradient is clipped without the decay; lam*W joins it afterwards, in full."""
    limit = 0.25
    model = dense_model()
    model.compile(keras.optimizers.SGD(ETA, **{clip: limit}), mse)
    data = random_data(STEPS * BATCH_SIZE)
    weight = kernel(model)
    clipped = 0
    for step in range(STEPS):
        rows = slice(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
        gradient = linear_gradient(weight, data[0][rows], data[1][rows])
        before = gradient
        if clip == "clipvalue":
            gradient = np.clip(gradient, -limit, limit)
        else:
            gradient = gradient * min(1.0, limit / np.linalg.norm(gradient))
        clipped += not np.array_equal(before, gradient)
        weight = decayed_step(weight, gradient, coupling)
    assert clipped > 20
    fit(model, data, [WeightDecay(LAM, coupling=coupling)], batch_size=BATCH_SIZE)
    assert relative_distance(kernel(model), weight) < TOLERANCE


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("coupling", ["decoupled", "coupled"])
def test_the_global_norm_is_that_of_the_data_gradients(coupling: str) -> None:
    """global_clipnorm measures kernel and bias together, without the kernel's decay."""
    limit = 0.25
    model = dense_model(use_bias=True)
    model.compile(keras.optimizers.SGD(ETA, global_clipnorm=limit), mse)
    inputs, targets = random_data(STEPS * BATCH_SIZE)
    weight, bias = kernel(model), np.zeros(2)
    clipped = 0
    for step in range(STEPS):
        rows = slice(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
        gradient = linear_gradient(weight, inputs[rows], targets[rows] - bias)
        errors = inputs[rows] @ weight + bias - targets[rows]
        of_bias = 2 / errors.size * errors.sum(axis=0)
        scale = min(1.0, limit / np.sqrt(np.sum(gradient**2) + np.sum(of_bias**2)))
        clipped += scale < 1
        weight = decayed_step(weight, scale * gradient, coupling)
        bias = bias - ETA * scale * of_bias
    assert clipped > 20
    fit(model, (inputs, targets), [WeightDecay(LAM, coupling=coupling)], batch_size=BATCH_SIZE)
    trained = np.vstack(model.get_weights())  # kernel, then bias
    assert relative_distance(trained, np.vstack([weight, bias])) < TOLERANCE


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("frequency", [None, 3])
def test_the_average_follows_the_decayed_weights(frequency: int | None) -> None:
    """With use_ema the average is that of the decayed weights, and is what the fit ends with."""
    model = dense_model()
    average_of = {"use_ema": True, "ema_momentum": 0.75, "ema_overwrite_frequency": frequency}
    model.compile(keras.optimizers.SGD(ETA, **average_of), mse)
    weight = kernel(model)
    average = np.zeros_like(weight)
    for step in range(STEPS):
        weight = (1 - ETA * LAM) * weight
        momentum = 0.75 if step else 0.0
        average = momentum * average + (1 - momentum) * weight
        if frequency and (step + 1) % frequency == 0:
            weight = average
    fit_zeros(model, STEPS, [WeightDecay(LAM)])
    assert relative_distance(kernel(model), average) < 1e-12


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("coupling", ["decoupled", "coupled"])
def test_constraints_come_after_the_decay(coupling: str) -> None:
    """A constraint sees the weights after decay and step."""
    model = dense_model(constraint=keras.constraints.NonNeg())
    model.compile(keras.optimizers.SGD(ETA), mse)
    data = random_data(STEPS * BATCH_SIZE)
    weight = kernel(model)
    for step in range(STEPS):
        rows = slice(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
        gradient = linear_gradient(weight, data[0][rows], data[1][rows])
        weight = np.maximum(decayed_step(weight, gradient, coupling), 0)
    fit(model, data, [WeightDecay(LAM, coupling=coupling)], batch_size=BATCH_SIZE)
    assert 0 < np.count_nonzero(weight) < weight.size
    assert relative_distance(kernel(model), weight) < TOLERANCE


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("coupling", "replicas"), [("decoupled", 1), ("coupled", 2)])
def test_replicas_share_the_coupled_decay(
    coupling: str, replicas: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients are summed over replicas, so each adds its part of lam * W; factors are not."""
    monkeypatch.setattr(optimizers, "num_replicas", lambda: 2)
    model = dense_model()
    model.compile(keras.optimizers.SGD(ETA), mse)
    weight = (1 - ETA * LAM / replicas) * kernel(model)
    fit_zeros(model, 1, [WeightDecay(LAM, coupling=coupling)])
    assert relative_distance(kernel(model), weight) < 1e-12


@pytest.mark.parametrize("coupling", ["decoupled", "coupled", "independent"])
@pytest.mark.parametrize("accumulation", [None, 2])
def test_a_skipped_step_decays_nothing(coupling: str, accumulation: int | None) -> None:
    """Under mixed_float16 a step whose gradient overflows is skipped, and its decay with it."""
    keras.config.set_dtype_policy("mixed_float16")
    model = dense_model()
    model.compile(keras.optimizers.SGD(ETA, gradient_accumulation_steps=accumulation), "mse")
    assert type(model.optimizer).__name__ == "LossScaleOptimizer"
    inputs = np.zeros((8, 3))
    inputs[[2, 3]] = np.inf  # 0 * inf: the gradient of two of the eight batches is nan
    before = kernel(model)
    fit(model, (inputs, np.zeros((8, 2))), [WeightDecay(LAM, coupling=coupling)], batch_size=1)
    factor = 1 - (LAM if coupling == "independent" else ETA * LAM)
    updates = 6 // (accumulation or 1)
    assert relative_distance(kernel(model), before * factor**updates) < 1e-6
    assert int(to_numpy(model.optimizer.iterations)) == updates


def test_bfloat16_compute_decays_float32_weights() -> None:
    """Under mixed_bfloat16 the weights are float32 and shrink exactly."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = dense_model()
    model.compile(keras.optimizers.SGD(ETA), "mse")
    before = kernel(model)
    fit_zeros(model, STEPS, [WeightDecay(LAM)])
    assert relative_distance(kernel(model), before * (1 - ETA * LAM) ** STEPS) < 1e-6


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("coupling", ["decoupled", "coupled"])
def test_embeddings_decay_in_every_row(coupling: str) -> None:
    """The gradient of an embedding touches a few rows; decay touches all of them."""
    layer = keras.layers.Embedding(6, 2, name="table")
    model = keras.Sequential([keras.Input((1,), dtype="int32"), layer, keras.layers.Flatten()])
    model.compile(keras.optimizers.SGD(ETA), mse, run_eagerly=BACKEND == "torch")
    table = np.random.default_rng(3).normal(size=(6, 2))
    layer.embeddings.assign(table)
    rows, targets = np.array([[1], [4]] * 25), np.ones((50, 2))
    for row in rows[:, 0]:
        gradient = np.zeros_like(table)
        gradient[row] = table[row] - 1  # of mean((w - 1)**2) over two outputs
        table = decayed_step(table, gradient, coupling)
    model.fit(
        rows, targets, batch_size=1, shuffle=False, verbose=0,
        callbacks=[WeightDecay(LAM, coupling=coupling)],
    )  # fmt: skip
    assert relative_distance(to_numpy(layer.embeddings), table) < 1e-12


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("coupling", ["decoupled", "coupled"])
def test_a_row_that_comes_twice_in_a_batch_decays_once(coupling: str) -> None:
    """The gradients of a repeated row add up; the decay of the row does not."""
    layer = keras.layers.Embedding(5, 2, name="table")
    model = keras.Sequential([keras.Input((3,), dtype="int32"), layer, keras.layers.Flatten()])
    model.compile(keras.optimizers.SGD(ETA), mse)
    table = np.random.default_rng(3).normal(size=(5, 2))
    layer.embeddings.assign(table)
    rows = np.array([[1, 1, 4], [0, 1, 0]] * 25)
    for batch in rows:
        gradient = np.zeros_like(table)
        for row in batch:
            gradient[row] += 2 / 6 * table[row]  # of mean(w**2) over three rows of two
        table = decayed_step(table, gradient, coupling)
    model.fit(
        rows, np.zeros((50, 6)), batch_size=1, shuffle=False, verbose=0,
        callbacks=[WeightDecay(LAM, coupling=coupling)],
    )  # fmt: skip
    assert relative_distance(to_numpy(layer.embeddings), table) < 1e-12


@pytest.mark.usefixtures("float64")
def test_independent_decay_follows_the_schedule_not_the_rate() -> None:
    """The factor is 1 - lam * eta_t / eta_peak: the shape of the schedule, whatever its height."""
    steps, warmup, peak = 12, 4, 0.25
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, warmup_target=peak, warmup_steps=warmup
    )
    model = dense_model()
    model.compile(keras.optimizers.SGD(schedule), mse)
    weight = kernel(model)
    for step in range(steps):
        cosine = (1 + np.cos(np.pi * (step - warmup) / (steps - warmup))) / 2
        weight = weight * (1 - LAM * (step / warmup if step < warmup else cosine))
    logs = fit_zeros(model, steps, [WeightDecay(LAM, coupling="independent")])
    assert relative_distance(kernel(model), weight) < 1e-7  # Keras' schedules are float32 inside
    last = LAM * (1 + np.cos(np.pi * 7 / 8)) / 2
    assert logs["decay_per_step"][0] == pytest.approx(last, rel=1e-5)


@pytest.mark.usefixtures("float64")
def test_independent_decay_with_a_peak_of_ones_own() -> None:
    """peak_learning_rate sets what the learning rate is relative to."""
    model = dense_model()
    model.compile(keras.optimizers.SGD(0.25), mse)
    before = kernel(model)
    decay = WeightDecay(LAM, coupling="independent", peak_learning_rate=0.5)
    fit_zeros(model, 3, [decay])
    assert relative_distance(kernel(model), before * (1 - LAM / 2) ** 3) < 1e-12
