"""The forms of decay against their equations, stepped by hand in NumPy, float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import WeightDecay
from tests.support.models import dense_model, fit, kernel, linear_gradient, mse, random_data
from tests.support.models import relative_distance as distance

STEPS, BATCH_SIZE = 40, 4
LAM = 0.25
# Exact in float32, through which Keras casts rates and the powers of its betas.
RATES = (0.0625, 0.125, 0.03125)
BOUNDARIES = (10, 25)
PEAK = 0.125
BETAS = (0.875, 0.96875)
MOMENTUM = 0.875
TOLERANCE = 1e-10

Decay = Callable[[Any, Any, float, float], Any]  # (W_t, step, eta, mean(v_hat)) -> taken from W


def schedule() -> Any:
    """Three rates; Keras changes to the next one after the boundary."""
    return keras.optimizers.schedules.PiecewiseConstantDecay(BOUNDARIES, list(RATES))


def eta_at(step: int) -> float:
    """The learning rate of the same schedule."""
    return RATES[sum(step > boundary for boundary in BOUNDARIES)]


def adam() -> Any:
    return keras.optimizers.Adam(schedule(), *BETAS, epsilon=1e-30)


def sgd() -> Any:
    return keras.optimizers.SGD(schedule(), momentum=MOMENTUM)


def stepped_by_hand(make: Callable[[], Any], decay: Decay) -> Any:
    """The kernel after 40 steps of Adam or momentum SGD, decay taken off at every step."""
    inputs, targets = random_data(STEPS * BATCH_SIZE)
    weight = kernel(dense_model())
    velocity, first, second = (np.zeros_like(weight) for _ in range(3))
    for step in range(STEPS):
        rows = slice(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
        gradient, eta = linear_gradient(weight, inputs[rows], targets[rows]), eta_at(step)
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient**2
        second_hat = second / (1 - BETAS[1] ** (step + 1))
        velocity = MOMENTUM * velocity + eta * gradient
        taken = velocity
        if make is adam:
            taken = eta * first / (1 - BETAS[0] ** (step + 1)) / np.sqrt(second_hat)
        weight = weight - taken - decay(weight, taken, eta, float(np.mean(second_hat)))
    return weight


def trained(make: Callable[[], Any], *callbacks: WeightDecay) -> Any:
    """The same steps by Keras."""
    model = dense_model()
    model.compile(make(), mse)
    fit(model, random_data(STEPS * BATCH_SIZE), callbacks, batch_size=BATCH_SIZE)
    return kernel(model)


START = np.random.default_rng(7).normal(size=(3, 2))  # the kernel of `dense_model`

FORMS: dict[str, tuple[dict[str, Any], Decay]] = {
    "corrected": ({"corrected": "*"}, lambda w, u, eta, v: LAM * eta**2 / PEAK * w),
    "cautious": ({"cautious": True}, lambda w, u, eta, v: eta * LAM * w * (u * w >= 0)),
    "toward": ({"toward": "init"}, lambda w, u, eta, v: eta * LAM * (w - START)),
    "cautious, independent": (
        {"cautious": True, "coupling": "independent"},
        lambda w, u, eta, v: eta / PEAK * LAM * w * (u * w >= 0),
    ),
    "cautious, toward": (
        {"cautious": True, "toward": "init"},
        lambda w, u, eta, v: eta * LAM * (w - START) * (u * w >= 0),
    ),
    "corrected, toward": (
        {"corrected": "*", "toward": "init"},
        lambda w, u, eta, v: LAM * eta**2 / PEAK * (w - START),
    ),
    "a mapping": ({"lam": {"*/kernel": LAM}}, lambda w, u, eta, v: eta * LAM * w),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("make", [adam, sgd])
@pytest.mark.parametrize("form", FORMS)
def test_the_trajectory_is_that_of_the_equation(form: str, make: Callable[[], Any]) -> None:
    """After 40 steps with a schedule the weights equal the equation's, stepped by hand."""
    arguments, decay = FORMS[form]
    expected = stepped_by_hand(make, decay)
    assert distance(trained(make, WeightDecay(**{"lam": LAM, **arguments})), expected) < TOLERANCE
    plain = stepped_by_hand(make, lambda w, u, eta, v: eta * LAM * w)
    assert form == "a mapping" or distance(plain, expected) > 1e-3
    assert distance(stepped_by_hand(make, lambda w, u, eta, v: 0.0), expected) > 1e-3


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("cautious", [False, True])
def test_stable_decay_is_that_of_adams(cautious: bool) -> None:
    """With Adam, eta * lam is divided by the root of the mean of v_hat after the step."""

    def decay(w: Any, u: Any, eta: float, v: float) -> Any:
        return eta * LAM / np.sqrt(v) * w * (u * w >= 0 if cautious else 1)

    expected = stepped_by_hand(adam, decay)
    assert distance(stepped_by_hand(adam, lambda w, u, eta, v: eta * LAM * w), expected) > 1e-3
    ours = trained(adam, WeightDecay(LAM, stable=True, cautious=cautious))
    assert distance(ours, expected) < TOLERANCE


@pytest.mark.usefixtures("float64")
def test_coupled_decay_toward_the_start() -> None:
    """lam * (W - W_0) enters the momentum with the gradient."""
    inputs, targets = random_data(STEPS * BATCH_SIZE)
    weight, velocity = START, np.zeros_like(START)
    for step in range(STEPS):
        rows = slice(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
        gradient = linear_gradient(weight, inputs[rows], targets[rows]) + LAM * (weight - START)
        velocity = MOMENTUM * velocity + eta_at(step) * gradient
        weight = weight - velocity
    decay = WeightDecay(LAM, coupling="coupled", toward="init")
    assert distance(trained(sgd, decay), weight) < TOLERANCE
    assert distance(trained(sgd, WeightDecay(LAM, coupling="coupled")), weight) > 1e-3


def test_stable_needs_a_second_moment() -> None:
    """SGD keeps no v: stable decay says so when fit begins."""
    with pytest.raises(ValueError, match="`stable` divides by the second moment of Adam"):
        trained(sgd, WeightDecay(LAM, stable=True))


def test_stable_decay_waits_for_the_first_gradient() -> None:
    """As long as every gradient was zero there is nothing to divide by, and no decay."""
    model = dense_model()
    model.compile(keras.optimizers.Adam(0.5), mse)
    before = kernel(model)
    fit(model, (np.zeros((4, 3)), np.zeros((4, 2))), [WeightDecay(LAM, stable=True)])
    np.testing.assert_array_equal(kernel(model), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"corrected": True, "coupling": "coupled"}, 'needs coupling="decoupled"'),
        ({"stable": True, "coupling": "independent"}, 'needs coupling="decoupled"'),
        ({"cautious": True, "coupling": "coupled"}, '"decoupled" or "independent"'),
        ({"lazy": True, "toward": "init"}, "`lazy` and `toward` do not go together"),
        ({"corrected": True, "stable": True}, "`corrected` and `stable` do not go together"),
        ({"layer_decay": 0.0}, "`layer_decay` must be above zero"),
        ({"toward": "model.h5"}, "which is neither"),
        ({"toward": "none.weights.h5"}, "which does not exist"),
        ({"peak_learning_rate": 1.0}, "belongs to"),
    ],
)
def test_forms_that_do_not_go_together_are_refused(arguments: dict[str, Any], message: str) -> None:
    """At construction, with what to change."""
    with pytest.raises(ValueError, match=message):
        WeightDecay(LAM, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cautious": "yes"}, "`cautious` must be True or False"),
        ({"corrected": 3}, "`corrected` must be a glob"),
        ({"toward": 3}, '`toward` must be "init" or a checkpoint'),
        ({"lam": {}}, "mapping `lam` must have glob patterns"),
        ({"lam": {"*": -1.0}}, "`lam` must be a finite"),
        ({"lam": {3: 1.0}}, "mapping `lam` must have glob patterns"),
    ],
)
def test_arguments_of_another_type_are_refused(arguments: dict[str, Any], message: str) -> None:
    """At construction, with what was expected and what came."""
    with pytest.raises((TypeError, ValueError), match=message):
        WeightDecay(**{"lam": LAM, **arguments})
