"""The optimizers of Keras, by name, and short trainings with them."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from tests.support.models import dense_model, fit, kernel, mse, random_data

ETA = 0.25
LAM = 0.5
UPDATES = 6  # of `trained`

# Optimizers that decay by default get arguments without decay.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "AdamW": {"weight_decay": 0.0},
    "Muon": {"weight_decay": None, "adam_weight_decay": None},
    "Adafactor": {"relative_step": False},
}
# Not optimizers of variables by themselves; each has a test of its own.
WRAPPERS = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer"}
NOT_DECOUPLED = {"Ftrl", "ScheduleFreeAdamW"}


def halved(learning_rate: Any, momentum: float = 0.0, nesterov: bool = False) -> Any:
    """Returns SGD at half of the rate that it is given, as a function of a user's may."""
    return keras.optimizers.SGD(0.5 * learning_rate, momentum, nesterov)


def exported() -> list[str]:
    """Every optimizer that Keras exports, so that a new one must be dealt with here."""
    return sorted(
        name
        for name, value in vars(keras.optimizers).items()
        if inspect.isclass(value) and issubclass(value, keras.optimizers.Optimizer)
    )


OPTIMIZERS = sorted(set(exported()) - WRAPPERS)


def build(name: str) -> Any:
    return getattr(keras.optimizers, name)(learning_rate=ETA, **ARGUMENTS.get(name, {}))


def trained(optimizer: Any, decay: Any, **compiling: Any) -> Any:
    """The kernel after a few steps on random data."""
    model = dense_model()
    model.compile(optimizer, mse, **compiling)
    fit(model, random_data(4 * UPDATES), [decay])
    return kernel(model)
