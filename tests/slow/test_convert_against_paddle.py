"""convert against Paddle itself, where it is installed: 195 MB are too much for `make test`.

The weights, batches and 100 steps are those of tests/library/convert/test_against_systems.py, in
float64; `tests.support.reference_updates` has the same rule by hand. With `pip install
paddlepaddle` it runs by

    KERAS_BACKEND=jax python -m pytest tests/slow/test_convert_against_paddle.py
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import pytest

from l2keras import HalfL2, WeightDecay, convert
from tests.support.models import BACKEND, dense_model, fit, kernel, mse, relative_distance
from tests.support.other_systems import BATCH_SIZE, DATA, ETA, MOMENTUM, batches

LAM = 0.25
CLIP = 0.5
TOLERANCE = 1e-9

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.skipif(BACKEND == "tensorflow", reason="Paddle 3.3 crashes beside TensorFlow"),
]


@pytest.fixture(name="paddle", scope="module")
def import_paddle() -> Any:
    """Paddle, whose import warns where no ccache is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            "paddle", reason="paddlepaddle (195 MB), or what it needs, is missing"
        )


def there(paddle: Any, make: Callable[..., Any], **options: Any) -> Any:
    """The kernel after the steps of an optimizer of Paddle with L2Decay."""
    weight = paddle.to_tensor(kernel(dense_model()), stop_gradient=False)
    decay = paddle.regularizer.L2Decay(LAM)
    optimizer = make(ETA, parameters=[weight], weight_decay=decay, **options)
    for inputs, targets in batches():
        loss = ((paddle.to_tensor(inputs) @ weight - paddle.to_tensor(targets)) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    return weight.numpy()


def here(optimizer: Any, regularizer: Any = None, *callbacks: Any) -> Any:
    """The kernel after the steps in Keras."""
    model = dense_model(regularizer=regularizer)
    model.compile(optimizer, mse)
    fit(model, DATA, callbacks, batch_size=BATCH_SIZE)
    return kernel(model)


@pytest.mark.parametrize("momentum", [0.0, MOMENTUM])
def test_l2_decay_is_half_l2(paddle: Any, momentum: float) -> None:
    """SGD and Momentum with L2Decay: equal to HalfL2 after 100 steps, and not without decay."""
    if momentum:
        expected = there(paddle, paddle.optimizer.Momentum, momentum=momentum)
    else:
        expected = there(paddle, paddle.optimizer.SGD)
    lam = convert(LAM, "paddle.L2Decay", "half_l2", learning_rate=ETA)
    assert lam.exact
    steps = here(keras.optimizers.SGD(ETA, momentum), HalfL2(lam))
    assert relative_distance(steps, expected) < TOLERANCE
    assert relative_distance(here(keras.optimizers.SGD(ETA, momentum)), expected) > 1e-2


@pytest.mark.parametrize("momentum", [0.0, MOMENTUM])
def test_it_clips_before_it_decays(paddle: Any, momentum: float) -> None:
    """With clipping it is coupled WeightDecay, after the clip, and not HalfL2, before it."""
    clip = paddle.nn.ClipGradByValue(CLIP)  # its clip by norm is float32 only
    make = paddle.optimizer.Momentum if momentum else paddle.optimizer.SGD
    expected = there(paddle, make, grad_clip=clip, **({"momentum": momentum} if momentum else {}))
    lam = convert(LAM, "paddle.L2Decay", "WeightDecay.coupled", learning_rate=ETA)
    assert lam.exact  # a float for the type checker, too
    clipped = [keras.optimizers.SGD(ETA, momentum, clipvalue=CLIP) for _ in range(2)]
    after = here(clipped[0], None, WeightDecay(lam, coupling="coupled"))
    assert relative_distance(after, expected) < TOLERANCE
    assert relative_distance(here(clipped[1], HalfL2(lam)), expected) > 1e-2
