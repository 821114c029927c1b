"""What the benchmark of a sweep computes from its measurements."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from benchmarks import sweep
from benchmarks.cases import products, sweeps
from benchmarks.cases.sweeps import CASES
from benchmarks.kit.result import Goal
from benchmarks.kit.timing import Timings, again
from benchmarks.sweep import FIT, PLAIN, SWEPT, Measured
from tests.support import sweeps as models


def measured(plain: float, fit: float, swept: float) -> Measured:
    """32 members; tracing takes 0.5 s and the products 1 s."""
    timings = Timings({PLAIN: [plain], again(PLAIN): [plain], FIT: [fit], SWEPT: [swept]})
    apart = {f"{dtype}, sweep and fit": [1e-7, 1e-9] for dtype in sweep.LIMITS}
    return Measured(CASES["mlp_32"], timings, 0.5, "32 members, 32 at once", 1.0, apart)


def test_operations_of_a_step() -> None:
    """2 * 3 * 5 per weight and product: two products of 4 x 2, three of 2 x 1."""
    assert products.operations([(4, 2), (2, 1)], members=3, batch=5) == 30 * (2 * 8 + 3 * 2)


def test_the_products_are_those_of_the_gradient() -> None:
    """Of sum(y ** 2) / 2 for y = x A B: dB = (x A)^T y and dA = x^T (y B^T), for each member."""
    generator = np.random.default_rng(0)
    x, a, b = (generator.normal(size=(3, *shape)) for shape in ((5, 4), (4, 2), (2, 1)))
    tensors = [keras.ops.convert_to_tensor(value, "float32") for value in (x, a, b)]
    gradients = products.gradients(tensors[0], tensors[1:])
    y = x @ a @ b
    turned = [np.swapaxes(value, 1, 2) for value in (x @ a, x, b)]
    for actual, expected in zip(
        gradients, [turned[0] @ y, turned[1] @ (y @ turned[2])], strict=True
    ):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(actual), expected, rtol=1e-4)


def test_only_dense_models_have_products() -> None:
    """The kernels of the MLP in order; none of a model with convolutions."""
    assert products.kernels_of(CASES["mlp_32"].build()) == [(64, 128), (128, 128), (128, 10)]
    assert products.kernels_of(CASES["cnn_16"].build()) == []


@pytest.mark.parametrize(
    ("swept", "ratio", "fits", "verdicts"),
    [(1.5, 64 / 3, 0.75, ["met", "met"]), (4.0, 8.0, 2.0, ["not met", "not met"])],
)
def test_goals_of_a_sweep(swept: float, ratio: float, fits: float, verdicts: list[str]) -> None:
    """32 members of 1 s in the loop, against a sweep of 1.5 s or 4 s and a plain fit of 2 s."""
    speed_up, one_fit, single, double = sweep.goals([measured(2.0, 1.0, swept)])
    assert (speed_up.measured, speed_up.limit) == pytest.approx((ratio, 10))
    assert (one_fit.measured, one_fit.limit) == (fits, 1.0)
    assert [speed_up.verdict, one_fit.verdict] == verdicts
    assert single == Goal(single.text, single.case, 1e-7, 1e-5, "met", ".0e")
    assert double == Goal(double.text, double.case, 1e-7, 1e-10, "not met", ".0e")


def test_one_fit_is_a_goal_of_some_cases() -> None:
    """192 members have none."""
    one = replace(measured(2.0, 1.0, 1.5), case=CASES["mlp_64x3"])
    assert len(list(sweep.goals([one]))) == 3


def test_the_table_of_a_case() -> None:
    """Seconds, and their ratio to a plain fit of 2 s; the loop has 32 fits of 1 s."""
    table = sweep.section(measured(2.0, 1.0, 4.0), rounds=1)
    assert table.rows == {
        PLAIN: [2.0, 1.0],
        again(PLAIN): [2.0, 1.0],
        FIT: [1.0, 0.5],
        "fastest loop of fits": [32.0, 16.0],
        SWEPT: [4.0, 2.0],
        "tracing and compiling in it": [0.5, 0.25],
        "matrix products in it": [1.0, 0.5],
    }
    assert "32 members, 32 at once." in table.text


def test_the_summary() -> None:
    """125 ms for each of 32 members; 1110 steps of the MLP's products in 1 s."""
    operations = 1110 * 2 * 32 * 32 * (2 * 64 * 128 + 3 * 128 * 128 + 3 * 128 * 10) / 1e9
    (row,) = sweep.summary([measured(2.0, 1.0, 4.0)]).rows.values()
    assert row == pytest.approx([32, 8.0, 2.0, 125.0, operations, operations])


def test_differences_have_a_row_for_each_comparison() -> None:
    """Two members were fitted; the other cells are empty."""
    table = sweep.differences([measured(2.0, 1.0, 4.0)])
    assert list(table.rows.values()) == [[1e-7, 1e-9, None, None]] * 2


def test_the_programs_of_a_sweep_are_timed() -> None:
    """One for the full batches and one for the rest; then the function is as before."""
    owner, name = sweeps.MAKERS[keras.backend.backend()]
    before = getattr(owner, name)
    with sweeps.compile_times() as seconds:
        models.swept((0.0, 0.5))
    assert len(seconds) == 2
    assert min(seconds) > 0.0
    assert getattr(owner, name) is before


@pytest.mark.parametrize(("plain", "fit"), [(1.0, 2.0), (2.0, 1.0)])
def test_the_loop_has_the_faster_fits(plain: float, fit: float) -> None:
    """The sweep is not compared with a slow pipeline, nor with slow arrays."""
    assert measured(plain, fit, 4.0).throughput == 8.0
