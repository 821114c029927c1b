"""Half the sum of squares: one value and one gradient, in whatever form a backend computes it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from l2keras import HalfL2
from l2keras import _squares as squares
from l2keras._keras import xla
from tests.support.models import BACKEND, ON_TENSORFLOW, ON_TORCH, gradient, to_numpy

SHAPES = [(), (0, 3), (3,), (4, 2), (3, 5), (2, 3, 4, 16)]  # of 8 * n elements and of others


def values(shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(np.random.default_rng(0).normal(size=shape))


@pytest.mark.parametrize("form", ["any_size", None])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_value_and_its_gradient(shape: tuple[int, ...], form: str | None, request: Any) -> None:
    """In float64: half the sum of squares to 1e-15 of itself, and the tensor itself, exactly."""
    if form:
        request.getfixturevalue(form)
    x = values(shape)
    total = squares.half_sum(keras.ops.convert_to_tensor(x, "float64"))
    assert float(to_numpy(total)) == pytest.approx(float(np.sum(x * x)) / 2, rel=1e-15, abs=0)
    assert np.array_equal(gradient(lambda w: squares.half_sum(w, 3.0), x), 3.0 * x)


@ON_TENSORFLOW
@pytest.mark.parametrize("shape", SHAPES)
def test_under_xla_it_is_the_same_in_lanes(shape: tuple[int, ...]) -> None:
    """Value, gradient and the gradient of that; L2Loss stays where 8 rows cannot be made."""
    import tensorflow as tf

    x = tf.constant(values(shape))

    def derivatives(x: Any) -> Any:
        with tf.GradientTape() as second:
            second.watch(x)
            with tf.GradientTape() as first:
                first.watch(x)
                total = squares.half_sum(x)
            grad = first.gradient(total, x)
        return total, grad, second.gradient(grad, x)

    function = tf.function(derivatives, jit_compile=True, autograph=False)
    total, grad, twice = function(x)
    assert float(total) == pytest.approx(float(np.sum(x.numpy() ** 2)) / 2, rel=1e-15, abs=0)
    assert np.array_equal(grad, x)
    assert np.array_equal(twice, np.ones(shape))
    nodes = {node.type for node in function.get_concrete_function(x).graph.get_operations()}
    assert ("L2Loss" in nodes) == (shape not in [(4, 2), (2, 3, 4, 16)])


@ON_TENSORFLOW
@pytest.mark.parametrize("jit", [True, False])
def test_the_step_that_xla_compiles_is_known(jit: bool) -> None:
    """Keras' own step with jit_compile, and not the one without; nor eager code."""
    seen = []

    class Watching(HalfL2):
        def __call__(self, x: Any) -> Any:
            seen.append(xla.is_under_xla())
            return super().__call__(x)

    kernel = {"kernel_initializer": "ones", "kernel_regularizer": Watching(0.5)}
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, use_bias=False, **kernel)])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit)
    zeros = np.zeros((2, 4), "float32"), np.zeros((2, 2), "float32")
    history = model.fit(*zeros, batch_size=2, epochs=2, verbose=0)
    # (0.5 / 2) * 8 ones; after a step of -0.1 * 0.5, 0.95 of each
    assert history.history["loss"] == pytest.approx([2.0, 2.0 * 0.95**2])
    assert set(seen) == {jit}
    assert not xla.is_under_xla()


@pytest.mark.parametrize("value", [0.1, None])
def test_many_float32_weights_are_summed_to_their_last_digits(value: float | None) -> None:
    """4 million, random or, where rounding adds up, equal: to 1e-6 and to 1e-4, under XLA too."""
    shape = (2048, 2048)
    generator = np.random.default_rng(0)
    x = np.full(shape, value) if value else 0.02 * generator.normal(size=shape)
    x = x.astype("float32")
    expected = float(np.sum(np.square(x, dtype="float64"))) / 2
    tensor = keras.ops.convert_to_tensor(x)
    found = [squares.half_sum(tensor)]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        found.append(tf.function(squares.half_sum, jit_compile=True, autograph=False)(tensor))
    for total in found:
        assert float(to_numpy(total)) == pytest.approx(expected, rel=1e-4 if value else 1e-6, abs=0)


def test_a_symbolic_tensor_has_a_symbolic_sum() -> None:
    """As every operation of keras.ops."""
    total = squares.half_sum(keras.KerasTensor((3, 4), "float32"), 2.0)
    assert isinstance(total, keras.KerasTensor)
    assert total.shape == ()


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The form for large weights, for small ones too, in rows of two."""
    monkeypatch.setattr(squares, "LARGE", 0)
    monkeypatch.setattr(squares, "_ROW", 2)


@ON_TORCH
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own forward mode
@pytest.mark.parametrize("form", ["any_size", None])
def test_torch_takes_it_stacked_and_twice(form: str | None, request: Any) -> None:
    """Under torch.func: vmap of the value and of its gradient, a Hessian of ones, forward mode."""
    import torch

    if form:
        request.getfixturevalue(form)
    rows = torch.as_tensor(values((3, 4)))
    total = torch.func.vmap(squares.half_sum)(rows)
    assert torch.allclose(total, (rows * rows).sum(1) / 2, rtol=1e-15, atol=0)
    assert torch.equal(torch.func.vmap(torch.func.grad(squares.half_sum))(rows), rows)
    x = rows[0].clone().requires_grad_()
    (grad,) = torch.autograd.grad(squares.half_sum(x), x, create_graph=True)
    (twice,) = torch.autograd.grad(grad.sum(), x)
    assert torch.equal(twice, torch.ones_like(x))
    assert torch.equal(torch.func.hessian(squares.half_sum)(rows[0]), torch.eye(4).double())
    value, slope = torch.func.jvp(squares.half_sum, (rows[0],), (rows[1],))
    assert torch.allclose(value, (rows[0] ** 2).sum() / 2, rtol=1e-15, atol=0)
    assert torch.allclose(slope, rows[0] @ rows[1], rtol=1e-14, atol=0)


@ON_TORCH
@pytest.mark.usefixtures("any_size")
def test_torch_compiles_it_in_one_graph() -> None:
    """torch.compile sees plain operations, and does not have to break off for ours."""
    import torch

    x = torch.as_tensor(values((3, 4))).requires_grad_()
    torch.compile(HalfL2(0.5), backend="eager", fullgraph=True)(x).backward()
    assert torch.equal(x.grad, 0.5 * x.detach())


@ON_TORCH
@pytest.mark.usefixtures("any_size")
def test_autocast_does_not_narrow_it() -> None:
    """A penalty of float32 weights is float32, stacked too."""
    import torch

    rows = torch.as_tensor(values((3, 4)), dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert squares.half_sum(rows).dtype == torch.float32
        assert torch.func.vmap(squares.half_sum)(rows).dtype == torch.float32
