"""Decay of bfloat16 and float16 variables, below half a unit in the last place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import WeightDecay
from l2keras._decay.rounding import rounded
from tests.support.models import to_numpy

STEPS, ETA, LAM = 1000, 0.5, 2e-4  # eta * lam = 1e-4
SHRUNK = (1 - ETA * LAM) ** STEPS  # 0.9048
UNITS = 200


def narrow_model(dtype: str, optimizer: Any) -> Any:
    """A kernel of 200 x 200 in low precision, compiled."""
    keras.config.set_dtype_policy(dtype)
    layer = keras.layers.Dense(UNITS, use_bias=False, name="dense")
    model = keras.Sequential([keras.Input((UNITS,)), layer])
    draws = np.random.default_rng(0).uniform(0.5, 2.0, (UNITS, UNITS))
    layer.kernel.assign(keras.ops.convert_to_tensor(draws, dtype))
    model.compile(optimizer, "mse")
    return model


def values(variable: Any) -> Any:
    """A variable of any dtype as float64."""
    return to_numpy(keras.ops.cast(variable, "float32")).astype("float64")


def run(model: Any, steps: int, *decays: WeightDecay) -> None:
    """Steps whose gradient is zero, without a fit of 1,000 batches of zeros."""
    variables = model.trainable_variables
    zeros = [keras.ops.zeros(v.shape, v.dtype) for v in variables]

    def step() -> None:
        model.optimizer.apply(zeros, variables)

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        step = tf.function(step)
    with decays[0].in_step(model):
        for _ in range(steps):
            step()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("arguments", [{}, {"toward": "zeros"}], ids=["plain", "toward"])
def test_decay_is_effective_on_average(
    dtype: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    """1,000 steps at eta * lam = 1e-4 shrink the mean by (1 - 1e-4) ** 1000, within 0.2 %."""
    model = narrow_model(dtype, keras.optimizers.SGD(ETA))
    kernel = model.get_layer("dense").kernel
    before = values(kernel)
    if arguments:  # toward zero, by the way of an anchor
        arguments = {"toward": tmp_path / "zeros.weights.h5"}
        kernel.assign(keras.ops.zeros(kernel.shape, dtype))
        model.save_weights(arguments["toward"])
        kernel.assign(keras.ops.convert_to_tensor(before, dtype))
    run(model, STEPS, WeightDecay(LAM, **arguments))
    after = values(kernel)
    assert keras.backend.standardize_dtype(kernel.dtype) == dtype
    assert after.mean() / before.mean() == pytest.approx(SHRUNK, rel=2e-3)
    # every weight on its own walk, none left behind: the spread of a random walk of roundings
    assert np.abs(after / before - SHRUNK).max() < 0.3
    assert (after < before).mean() > 0.99


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounding_to_nearest_would_change_nothing(dtype: str) -> None:
    """The same steps by Keras' own weight_decay leave every weight as it is: what is mended."""
    model = narrow_model(dtype, keras.optimizers.SGD(ETA, weight_decay=LAM / 10))
    kernel = model.get_layer("dense").kernel
    before = values(kernel)
    variables = model.trainable_variables
    for _ in range(20):
        model.optimizer.apply([keras.ops.zeros(v.shape, v.dtype) for v in variables], variables)
    np.testing.assert_array_equal(values(kernel), before)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_is_effective_in_fit(dtype: str) -> None:
    """The compiled step of fit rounds anew at every step."""
    model = narrow_model(dtype, keras.optimizers.SGD(ETA))
    kernel = model.get_layer("dense").kernel
    before = values(kernel).mean()
    zeros = np.zeros((100, UNITS), "float32")
    decay = WeightDecay(2e-3)
    model.fit(zeros, zeros, batch_size=1, verbose=0, callbacks=[decay])
    assert values(kernel).mean() / before == pytest.approx((1 - 1e-3) ** 100, rel=2e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coupling": "coupled"}, r"low-precision variables round that away.*decoupled"),
        ({"cautious": True}, r"sign of the step, which low-precision variables may round away"),
    ],
)
def test_what_would_be_rounded_away_is_refused(
    dtype: str, arguments: dict[str, Any], message: str
) -> None:
    """lam * W in the gradient, and the sign of a step, raise when fit begins."""
    model = narrow_model(dtype, keras.optimizers.SGD(ETA))
    with pytest.raises(ValueError, match=message), WeightDecay(LAM, **arguments).in_step(model):
        pass


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("stable", [False, True])
def test_it_is_effective_where_low_precision_is_the_default(dtype: str, stable: bool) -> None:
    """keras.config.set_floatx: coefficients, moments and steps still count in float32."""
    keras.config.set_floatx(dtype)
    model = narrow_model(dtype, keras.optimizers.Adam(0.0) if stable else keras.optimizers.SGD(ETA))
    kernel = model.get_layer("dense").kernel
    before = values(kernel)
    optimizer, variables = model.optimizer, model.trainable_variables
    if not stable:
        run(model, 100, WeightDecay(lambda step: 2e-3 + 0 * step))
        assert values(kernel).mean() / before.mean() == pytest.approx((1 - 1e-3) ** 100, rel=2e-3)
        return
    optimizer.learning_rate.assign(2.0**-10)
    ones = [keras.ops.ones(v.shape, v.dtype) for v in variables]
    without = narrow_model(dtype, keras.optimizers.Adam(2.0**-10))
    for _ in range(3):
        without.optimizer.apply(ones, without.trainable_variables)
    with WeightDecay(2.0, stable=True).in_step(model):  # v_hat is 1: eta * lam = 2 ** -9
        for _ in range(3):
            optimizer.apply(ones, variables)
    lost = values(without.get_layer("dense").kernel).mean() - values(kernel).mean()
    assert lost == pytest.approx(before.mean() * 3 * 2.0**-9, rel=0.1)


@pytest.mark.parametrize(
    ("dtype", "ulp"), [("bfloat16", 2.0**-7), ("float16", 2.0**-10)], ids=["bfloat16", "float16"]
)
def test_values_are_rounded_to_a_neighbour_with_the_right_odds(dtype: str, ulp: float) -> None:
    """1 + 0.3 ulp comes to 1 in 70 % of the draws and to 1 + ulp in 30 %; 1 stays 1."""
    count = 100_000
    seed = (keras.ops.convert_to_tensor(3), 1)
    wide = keras.ops.full((count,), 1 + 0.3 * ulp, "float32")
    narrow = values(rounded(wide, dtype, seed))
    assert set(narrow) == {1.0, 1.0 + ulp}
    assert (narrow > 1).mean() == pytest.approx(0.3, abs=0.01)
    exact = keras.ops.convert_to_tensor([1.0, -0.75, 0.0], "float32")
    np.testing.assert_array_equal(values(rounded(exact, dtype, seed)), [1.0, -0.75, 0.0])


def test_without_a_seed_it_rounds_to_nearest() -> None:
    """Only low precision is rounded at random, and that alone has a seed."""
    wide = keras.ops.convert_to_tensor([1.1], "float32")
    np.testing.assert_array_equal(to_numpy(rounded(wide, "float32", None)), to_numpy(wide))
