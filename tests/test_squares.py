"""Half the sum of squares: one value and one gradient, in whatever form a backend computes it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from l2keras import HalfL2
from l2keras._keras import squares
from tests.helpers import BACKEND, gradient, to_numpy

ON_TENSORFLOW = pytest.mark.skipif(BACKEND != "tensorflow", reason="a form for TensorFlow's XLA")
ON_TORCH = pytest.mark.skipif(BACKEND != "torch", reason="a form for torch")
SHAPES = [(), (0, 3), (3,), (4, 2), (3, 5), (2, 3, 4, 16)]  # of 8 * n elements and of others


def values(shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(np.random.default_rng(0).normal(size=shape))


@pytest.mark.parametrize("large", [squares.LARGE, 0])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_value_and_its_gradient(
    shape: tuple[int, ...], large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64: half the sum of squares to 1e-15 of itself, and the tensor itself, exactly."""
    monkeypatch.setattr(squares, "LARGE", large)
    x = values(shape)
    total = squares.half_sum(keras.ops.convert_to_tensor(x, "float64"))
    assert float(to_numpy(total)) == pytest.approx(float(np.sum(x * x)) / 2, rel=1e-15)
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
    assert float(total) == pytest.approx(float(np.sum(x.numpy() ** 2)) / 2, rel=1e-15)
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
            seen.append(squares.is_under_xla())
            return super().__call__(x)

    kernel = {"kernel_initializer": "ones", "kernel_regularizer": Watching(0.5)}
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, use_bias=False, **kernel)])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit)
    zeros = np.zeros((2, 4), "float32"), np.zeros((2, 2), "float32")
    history = model.fit(*zeros, batch_size=2, epochs=2, verbose=0)
    # (0.5 / 2) * 8 ones; after a step of -0.1 * 0.5, 0.95 of each
    assert history.history["loss"] == pytest.approx([2.0, 2.0 * 0.95**2])
    assert set(seen) == {jit}
    assert not squares.is_under_xla()


@ON_TORCH
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own forward mode
@pytest.mark.parametrize(("large", "most"), [(squares.LARGE, 99), (0, 99), (0, 1)])
def test_torch_takes_it_stacked_and_twice(
    large: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under torch.func: vmap of the value and of its gradient, and a Hessian of ones."""
    import torch

    monkeypatch.setattr(squares, "LARGE", large)
    monkeypatch.setattr(squares, "_MOST_FOR_DOT", most)
    rows = torch.as_tensor(values((3, 4)))
    total = torch.func.vmap(squares.half_sum)(rows)
    assert torch.allclose(total, (rows * rows).sum(1) / 2, rtol=1e-15)
    assert torch.equal(torch.func.vmap(torch.func.grad(squares.half_sum))(rows), rows)
    x = rows[0].clone().requires_grad_()
    (grad,) = torch.autograd.grad(squares.half_sum(x), x, create_graph=True)
    (twice,) = torch.autograd.grad(grad.sum(), x)
    assert torch.equal(twice, torch.ones_like(x))
    assert torch.equal(torch.func.hessian(squares.half_sum)(rows[0]), torch.eye(4).double())
    value, slope = torch.func.jvp(squares.half_sum, (rows[0],), (rows[1],))
    assert torch.allclose(value, (rows[0] ** 2).sum() / 2, rtol=1e-15)
    assert torch.allclose(slope, rows[0] @ rows[1], rtol=1e-14)
