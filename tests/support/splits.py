"""A model whose loss PenaltySplit splits."""

from __future__ import annotations

from typing import Any

import keras

from l2keras import HalfL2
from tests.support.models import dense_model, mse

ETA, LAM = 0.25, 0.5
PARTS = {"loss", "data_loss", "penalty"}


def compiled(regularizer: Any = None, **arguments: Any) -> Any:
    model = dense_model(regularizer=regularizer or HalfL2(LAM))
    model.compile(keras.optimizers.SGD(ETA), mse, **arguments)
    return model
