"""Trajectories against the real thing: torch's optimizers and Keras' own AdamW, in float64.

Keras adds Adam's epsilon to sqrt(v) before the bias correction, torch after it. At 1e-30 it
cannot matter to sqrt(v), which is about 1 here. Keras also takes the powers of its betas after
casting them through float32, so these are exact in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch

from l2keras import WeightDecay
from tests.support import factorial
from tests.support.models import dense_model, fit, kernel, mse, random_data, relative_distance

STEPS = 100
BATCH_SIZE = 4
LAM = 0.25
ETA = 0.0625  # eta * lam = 1/64; both are exact in float32, through which Keras casts its own
EPSILON = 1e-30
BETAS = (0.875, 0.96875)
TOLERANCE = 1e-10

pytestmark = pytest.mark.usefixtures("float64")


def torch_kernel(make: Callable[[list[Any]], Any], start: Any, inputs: Any, targets: Any) -> Any:
    """The weight after 100 steps of a torch optimizer on the mean squared error."""
    weight = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = make([weight])
    for step in range(STEPS):
        rows = slice(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
        optimizer.zero_grad()
        loss = ((torch.tensor(inputs[rows]) @ weight - torch.tensor(targets[rows])) ** 2).mean()
        loss.backward()
        optimizer.step()
    return weight.detach().numpy()


def keras_kernel(optimizer: Any, data: tuple[Any, Any], decay: WeightDecay | None = None) -> Any:
    """The kernel after the same steps of a Keras optimizer, with the callback if there is one."""
    model = dense_model()
    model.compile(optimizer, mse)
    fit(model, data, [decay] if decay else [], batch_size=BATCH_SIZE)
    return kernel(model)


def sgd(momentum: float = 0.0, nesterov: bool = False) -> tuple[Any, Any]:
    """The Keras optimizer, and the same one of torch with coupled decay."""
    return (
        keras.optimizers.SGD(ETA, momentum=momentum, nesterov=nesterov),
        lambda parameters: torch.optim.SGD(
            parameters, lr=ETA, momentum=momentum, nesterov=nesterov, weight_decay=LAM
        ),
    )


def adam(torch_class: Any) -> tuple[Any, Any]:
    """Keras' Adam, and an Adam of torch with its weight decay."""
    return (
        keras.optimizers.Adam(ETA, *BETAS, epsilon=EPSILON),
        lambda parameters: torch_class(
            parameters, lr=ETA, betas=BETAS, eps=EPSILON, weight_decay=LAM
        ),
    )


CASES: dict[str, tuple[str, Callable[[], tuple[Any, Any]]]] = {
    "SGD": ("coupled", sgd),
    "SGD, momentum": ("coupled", lambda: sgd(0.875)),
    "SGD, nesterov": ("coupled", lambda: sgd(0.875, nesterov=True)),
    "SGD is decoupled too": ("decoupled", sgd),
    "Adam": ("coupled", lambda: adam(torch.optim.Adam)),
    "AdamW": ("decoupled", lambda: adam(torch.optim.AdamW)),
}


@pytest.mark.parametrize("case", factorial.sample(CASES, 3))
def test_the_trajectory_is_that_of_torch(case: str) -> None:
    """After 100 steps from the same weights on the same batches the weights equal torch's."""
    coupling, make = CASES[case]
    ours, theirs = make()
    data = random_data(STEPS * BATCH_SIZE)
    start = kernel(dense_model())
    expected = torch_kernel(theirs, start, *data)
    decayed = keras_kernel(ours, data, WeightDecay(LAM, coupling=coupling))
    assert relative_distance(decayed, expected) < TOLERANCE
    undecayed = keras_kernel(type(ours).from_config(ours.get_config()), data)
    assert relative_distance(undecayed, expected) > 1e-3


@pytest.mark.parametrize("momentum", [0.0, 0.875])
def test_the_other_coupling_is_another_trajectory_once_there_is_momentum(momentum: float) -> None:
    """torch's SGD is not decoupled decay as soon as there is momentum."""
    ours, theirs = sgd(momentum)
    data = random_data(STEPS * BATCH_SIZE)
    expected = torch_kernel(theirs, kernel(dense_model()), *data)
    distance = relative_distance(keras_kernel(ours, data, WeightDecay(LAM)), expected)
    assert distance > 1e-3 if momentum else distance < TOLERANCE


def test_decoupled_is_the_adamw_of_keras_with_the_same_exclusions() -> None:
    """Adam with decoupled decay equals Keras' AdamW that leaves the bias out."""
    data = random_data(STEPS * BATCH_SIZE)

    def weights(optimizer: Any, decay: list[Any]) -> list[Any]:
        model = dense_model(use_bias=True)
        optimizer.exclude_from_weight_decay(var_list=[model.get_layer("dense").bias])
        model.compile(optimizer, mse)
        fit(model, data, decay, batch_size=BATCH_SIZE)
        trained: list[Any] = model.get_weights()
        return trained

    ours = weights(keras.optimizers.Adam(ETA), [WeightDecay(LAM)])
    theirs = weights(keras.optimizers.AdamW(ETA, weight_decay=LAM), [])
    without = weights(keras.optimizers.Adam(ETA), [])
    for a, b in zip(ours, theirs, strict=True):
        assert relative_distance(a, b) < TOLERANCE
    assert relative_distance(without[0], theirs[0]) > 1e-3
    assert not np.array_equal(ours[1], np.zeros(2))
