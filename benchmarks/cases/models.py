"""The models whose training steps are timed, and a batch for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

LARGE = "mlp_3x2048"
CLASSES = 10


@dataclass(frozen=True)
class Case:
    """A classifier. `build` takes the regularizer of every kernel and embedding, or None."""

    title: str
    build: Callable[[Any], Any]
    batch_size: int = 32
    vocabulary: int = 0  # number of ids that the model takes

    def batch(self, model: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns random inputs and classes, the same at every call."""
        random = np.random.default_rng(0)
        shape = (self.batch_size, *model.input_shape[1:])
        y = random.integers(CLASSES, size=self.batch_size).astype("int32")
        if self.vocabulary:
            return random.integers(self.vocabulary, size=shape).astype("int32"), y
        return random.normal(size=shape).astype("float32"), y


def _mlp(layers: int, units: int) -> Callable[[Any], Any]:
    def build(regularizer: Any) -> Any:
        hidden = [
            keras.layers.Dense(units, "relu", kernel_regularizer=regularizer) for _ in range(layers)
        ]
        output = keras.layers.Dense(CLASSES, kernel_regularizer=regularizer)
        return keras.Sequential([keras.Input((units,)), *hidden, output])

    return build


def _cnn(regularizer: Any) -> Any:
    layers, kernels = keras.layers, {"kernel_regularizer": regularizer}
    return keras.Sequential(
        [keras.Input((28, 28, 1)), layers.Conv2D(16, 3, activation="relu", **kernels),
         layers.MaxPooling2D(), layers.Conv2D(32, 3, activation="relu", **kernels),
         layers.MaxPooling2D(), layers.Flatten(), layers.Dense(64, "relu", **kernels),
         layers.Dense(CLASSES, **kernels)]
    )  # fmt: skip


def _transformer(regularizer: Any) -> Any:
    layers, kernels = keras.layers, {"kernel_regularizer": regularizer}
    ids = keras.Input((32,), dtype="int32")
    x = layers.Embedding(1000, 64, embeddings_regularizer=regularizer)(ids)
    for _ in range(2):
        normal = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(4, 16, **kernels)(normal, normal)
        wide = layers.Dense(256, "relu", **kernels)(layers.LayerNormalization()(x))
        x = x + layers.Dense(64, **kernels)(wide)
    pooled = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(ids, layers.Dense(CLASSES, **kernels)(pooled))


def _embedding(regularizer: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((20,), dtype="int32"),
         layers.Embedding(20_000, 64, embeddings_regularizer=regularizer),
         layers.GlobalAveragePooling1D(), layers.Dense(CLASSES, kernel_regularizer=regularizer)]
    )  # fmt: skip


MODELS = {
    LARGE: Case("3x2048 MLP", _mlp(3, 2048), batch_size=8),
    "mlp_20x256": Case("20x256 MLP", _mlp(20, 256)),
    "mlp_50x64": Case("50x64 MLP", _mlp(50, 64)),
    "cnn": Case("small CNN", _cnn),
    "transformer": Case("small transformer", _transformer, vocabulary=1000),
    "embedding": Case("20,000 x 64 Embedding", _embedding, vocabulary=20_000),
}
