"""What is trained, and the goals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Case:
    """What is trained. `looped` fits of the loop are timed in each round.

    `validated`: whether all sides evaluate the examples for testing after each epoch.

    Goals: `throughput`, at least, over the best loop; all within `one_fit`, where that is asked.
    """

    title: str
    data: str
    examples: int  # a multiple of the batch size
    build: Callable[[], Any]
    lams: int
    seeds: int
    epochs: int
    throughput: float
    one_fit: bool = False
    validated: bool = False
    batch_size: int = 32
    looped: int = 4

    @property
    def members(self) -> int:
        return self.lams * self.seeds

    @property
    def steps(self) -> int:
        return self.epochs * (self.examples // self.batch_size)


def _mlp() -> Any:
    """The MLP of configs/model/mlp.yaml."""
    dense = keras.layers.Dense
    return keras.Sequential([keras.Input((64,)), dense(128, "relu"), dense(128, "relu"), dense(10)])


def _cnn() -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((28, 28, 1)), layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D(),
         layers.Conv2D(16, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(),
         layers.Dense(10)]
    )  # fmt: skip


CASES = {
    "mlp_32": Case("digits MLP, 32 lambdas", "digits", 1184, _mlp, 32, 1, 30, 10, one_fit=True),
    "mlp_32_validated": Case(
        "digits MLP, 32 lambdas, with validation data", "digits", 1184, _mlp, 32, 1, 30, 10,
        one_fit=True, validated=True,
    ),
    "mlp_32_long": Case(
        "digits MLP, 32 lambdas, 100 epochs", "digits", 1184, _mlp, 32, 1, 100, 10, one_fit=True
    ),
    "mlp_64x3": Case("digits MLP, 64 lambdas x 3 seeds", "digits", 1184, _mlp, 64, 3, 30, 10),
    "cnn_16": Case(
        "small CNN on mnist5k, 16 lambdas", "mnist5k", 3968, _cnn, 16, 1, 3, 2, looped=2
    ),
}  # fmt: skip
