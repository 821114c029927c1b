"""What the tests of `attach` share: models, and what is measured of them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from tests.support.models import dense_model, fit_zeros, kernel, mse, to_numpy

ETA, LAM = 0.5, 0.5
FACTOR = 1 - ETA * LAM
SEQUENCE, IMAGE = (4, 6), (8, 8, 2)


def attention(inputs: Any) -> Any:
    return layers.MultiHeadAttention(2, 3, name="mha")(inputs, inputs)


def compiled(model: Any = None, **arguments: Any) -> Any:
    model = model or dense_model()
    model.compile(keras.optimizers.SGD(ETA), mse, **arguments)
    return model


def shrinkage(model: Any, run: Callable[[], Any]) -> float:
    """What `run` multiplied the kernel by; the data's gradient is zero."""
    before = kernel(model)
    run()
    return float(np.mean(kernel(model) / before))


def one_step(model: Any, callbacks: Any = ()) -> Callable[[], Any]:
    return lambda: fit_zeros(model, 1, callbacks)


def penalty(model: Any) -> float:
    return float(sum(to_numpy(loss) for loss in model.losses))


def half_squares(model: Any, paths: str = "") -> float:
    """sum(W ** 2) / 2 over the variables whose path ends so, by NumPy."""
    return sum(
        float(np.sum(np.square(to_numpy(variable)))) / 2
        for variable in model.trainable_variables
        if variable.path.endswith(paths)
    )


def regularized(model: Any) -> list[tuple[str, float]]:
    """The last part of the path of each variable with a HalfL2, and its lam, in order."""
    return [
        (variable.path.rsplit("/", 1)[-1], variable.regularizer.lam)
        for variable in model.weights
        if variable.regularizer is not None
    ]


def copies(model: Any, folder: Path) -> dict[str, Any]:
    """The model, copied in each way that Keras has."""
    model.save(folder / "model.keras")
    return {
        "load_model": keras.models.load_model(folder / "model.keras"),
        "clone_model": keras.models.clone_model(model),
        "from_json": keras.models.model_from_json(model.to_json()),
        "pickle": pickle.loads(pickle.dumps(model)),
        "deepcopy": copy.deepcopy(model),
    }
