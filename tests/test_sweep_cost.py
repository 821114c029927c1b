"""What the benchmark of a sweep computes from its measurements."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from benchmarks.sweepcost import cases, compiling, page, products
from benchmarks.sweepcost.measure import Found
from tests.support import sweeps


def test_operations_of_a_step() -> None:
    """2 * 3 * 5 per weight and product: two products of 4 x 2, three of 2 x 1."""
    assert products.operations([(4, 2), (2, 1)], members=3, batch=5) == 30 * (2 * 8 + 3 * 2)


def test_the_products_are_those_of_the_gradient() -> None:
    """Of sum(y ** 2) / 2 for y = x A B: dB = (x A)^T y and dA = x^T (y B^T), for each member."""
    generator = np.random.default_rng(0)
    x, a, b = (generator.normal(size=(3, *shape)) for shape in ((5, 4), (4, 2), (2, 1)))
    tensors = [keras.ops.convert_to_tensor(value, "float32") for value in (x, a, b)]
    found = products.gradients(tensors[0], tensors[1:])
    y = x @ a @ b
    turned = [np.swapaxes(value, 1, 2) for value in (x @ a, x, b)]
    for actual, expected in zip(found, [turned[0] @ y, turned[1] @ (y @ turned[2])], strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(actual), expected, rtol=1e-4)


def test_only_dense_models_have_products() -> None:
    """The kernels of the MLP in order; none of a model with convolutions."""
    assert products.kernels_of(cases.CASES["mlp_32"].build()) == [(64, 128), (128, 128), (128, 10)]
    assert products.kernels_of(cases.CASES["cnn_16"].build()) == []


@pytest.mark.parametrize(
    ("swept", "ratio", "many", "one_fit"),
    [(2.0, "16.0", "met", "met"), (4.0, "8.0", "**not met**", "**not met**")],
)
def test_goals_of_a_sweep(
    monkeypatch: pytest.MonkeyPatch, swept: float, ratio: str, many: str, one_fit: str
) -> None:
    """32 members, 1 s each in the loop, against a sweep of 2 s or 4 s and a plain fit of 2 s."""
    monkeypatch.setattr(page, "distances", lambda case, dtype: [1e-7, 1e-9])
    found = Found(
        plain=2.0, fit=1.0, swept=swept, compiling=0.5, products=1.0, notes="32 members, 32 at once"
    )
    text = "\n".join(page.section(cases.CASES["mlp_32"], found, rounds=1))
    assert f"- {ratio} times the throughput of the best loop, of 10: {many}." in text
    assert f"- All in the time of one plain fit: {one_fit}." in text
    assert "float32, after 5 epochs: 1e-07, 1e-09; at most 1e-05: met." in text
    assert "float64, after 5 epochs: 1e-07, 1e-09; at most 1e-10: **not met**." in text
    assert "| of which tracing and compiling | 0.50 | 0.25 |" in text
    assert "| the matrix products of its steps alone | 1.00 | 0.50 |" in text


def test_the_programs_of_a_sweep_are_timed() -> None:
    """One for the full batches and one for the rest, each in its time; then as before."""
    owner, name = compiling.MAKERS[keras.backend.backend()]
    before = getattr(owner, name)
    with compiling.watched() as seconds:
        sweeps.swept((0.0, 0.5))
    assert len(seconds) == 2
    assert min(seconds) > 0.0
    assert getattr(owner, name) is before


def test_the_best_loop_is_the_faster_one() -> None:
    """A pipeline that is slower than arrays is not what the sweep is compared with."""
    case = cases.CASES["mlp_32"]
    assert Found(1.0, 2.0, 4.0, 0.5, None, "").throughput(case) == 8.0
    assert Found(2.0, 1.0, 4.0, 0.5, None, "").throughput(case) == 8.0
