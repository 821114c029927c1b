"""What `toward` pulls to: the start, kept over several fits, or a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import WeightDecay
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


def compiled(**arguments: Any) -> Any:
    model = dense_model(use_bias=True)
    model.compile(keras.optimizers.SGD(ETA, **arguments), mse)
    return model


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_the_weights_are_pulled_to_a_checkpoint(tmp_path: Path, suffix: str) -> None:
    """W - W_0 shrinks by 1 - eta * lam a step; model and optimizer are as before the reading."""
    model = compiled(momentum=0.5)
    fit_zeros(model, 1)
    path, anchor = tmp_path / f"start{suffix}", np.full((3, 2), 2.0)
    before = kernel(model)
    model.get_layer("dense").kernel.assign(anchor)
    (model.save if suffix == ".keras" else model.save_weights)(path)
    model.get_layer("dense").kernel.assign(before)
    model.optimizer.variables[-1].assign(np.full_like(model.optimizer.variables[-1], 0.5))
    state = [to_numpy(variable) for variable in model.optimizer.variables]

    decay = WeightDecay(LAM, toward=path)
    with decay.in_step(model):
        after_reading = [to_numpy(variable) for variable in model.optimizer.variables]
    for a, b in zip(after_reading, state, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(kernel(model), before)

    model = compiled()
    model.get_layer("dense").kernel.assign(before)
    fit_zeros(model, 3, [WeightDecay(LAM, toward=str(path))])
    expected = anchor + (before - anchor) * (1 - ETA * LAM) ** 3
    assert relative_distance(kernel(model), expected) < 1e-12


@pytest.mark.usefixtures("float64")
def test_the_start_stays_the_start() -> None:
    """A later fit with the same callback is pulled to where the first began, also retraced."""
    model = compiled()
    start, moved = kernel(model), np.full((3, 2), 3.0)
    decay = WeightDecay(LAM, toward="init")
    fit_zeros(model, 1, [decay])
    np.testing.assert_array_equal(kernel(model), start)
    expected = start + (moved - start) * (1 - ETA * LAM) ** 2
    for compiles_again in (False, True):
        if compiles_again:
            model.compile(keras.optimizers.SGD(ETA), mse)
        model.get_layer("dense").kernel.assign(moved)
        fit_zeros(model, 2, [decay])
        assert relative_distance(kernel(model), expected) < 1e-12


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere Keras builds the model before")
def test_a_model_without_weights_has_no_start() -> None:
    """toward needs a built model when fit begins."""
    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(ETA), "mse")
    with pytest.raises(ValueError, match="a model that is not built"):
        model.fit(
            np.zeros((4, 3)),
            np.zeros((4, 2)),
            verbose=0,
            callbacks=[WeightDecay(LAM, toward="init")],
        )
