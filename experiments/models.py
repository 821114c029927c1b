"""Models by name: uncompiled, built, with logits (or a regression) as their output.

The regularizer goes to every kernel and embedding and to nothing else: the variables that
`l2keras.masks.select` picks by default. Layers have names, so that variables have paths that
can be read: `mlp/hidden_1/kernel`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import keras
from keras import layers, ops

from experiments import device
from experiments.data import Dataset
from experiments.fits import check_fits
from experiments.schema import ModelConfig

HEAD_SIZE = 16  # of attention; a model of width 32 has two heads

Body: TypeAlias = Callable[[Any, ModelConfig, Dataset, Any], Any]  # inputs -> features


def build_model(config: ModelConfig, data: Dataset, regularizer: Any, seed: int) -> keras.Model:
    """The model that `config` names, for the inputs and outputs of `data`.

    Seeds Python, NumPy and the backend, so that the initial weights depend on `seed` only and
    every arm of a comparison starts from the same ones. Follows `keras.config`: floatx and the
    dtype policy; under mixed precision the outputs are float32.

    Args:
        config: Architecture, width, depth, activation and dropout.
        data: Decides the shapes and the kind of the inputs.
        regularizer: A `keras.regularizers.Regularizer`, or None.
        seed: Of the initial weights and of dropout.

    Raises:
        ConfigError: a name that does not exist, or a model that cannot take these inputs.
    """
    check_fits(config.name, data.kind, data.name)
    keras.utils.set_random_seed(seed)
    body = _BODIES[data.kind][config.name]
    dtype = "int32" if data.kind == "tokens" else None
    inputs = keras.Input(data.input_shape, dtype=dtype, name=data.kind)
    outputs = layers.Dense(
        data.num_outputs,
        kernel_regularizer=regularizer,
        dtype=keras.config.floatx(),  # not the compute dtype: losses need the precision
        name="output",
    )(body(inputs, config, data, regularizer))
    return keras.Model(inputs, outputs, name=config.name)


def _linear(inputs: Any, config: ModelConfig, data: Dataset, regularizer: Any) -> Any:
    return layers.Flatten(name="flatten")(inputs)


def _mlp(inputs: Any, config: ModelConfig, data: Dataset, regularizer: Any) -> Any:
    x = layers.Flatten(name="flatten")(inputs)
    for i in range(1, config.depth + 1):
        x = layers.Dense(config.width, kernel_regularizer=regularizer, name=f"hidden_{i}")(x)
        x = layers.Activation(config.activation.value, name=f"activation_{i}")(x)
        x = _dropout(x, config, i)
    return x


def _cnn(inputs: Any, config: ModelConfig, data: Dataset, regularizer: Any) -> Any:
    """Blocks of convolution, BatchNorm, activation and pooling; each doubles the channels."""
    x = inputs
    for i in range(1, config.depth + 1):
        x = _conv(x, config.width * 2 ** (i - 1), 3, regularizer, f"block_{i}")
        x = layers.Activation(config.activation.value, name=f"block_{i}_activation")(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"block_{i}_pool")(x)
        x = _dropout(x, config, i)
    return layers.Flatten(name="flatten")(x)


def _resnet(inputs: Any, config: ModelConfig, data: Dataset, regularizer: Any) -> Any:
    """Residual blocks after He et al., arXiv 1512.03385; each after the first halves the image."""
    x = _conv(inputs, config.width, 3, regularizer, "stem")
    x = layers.Activation(config.activation.value, name="stem_activation")(x)
    for i in range(1, config.depth + 1):
        x = _residual_block(x, config, i, regularizer)
        x = _dropout(x, config, i)
    return layers.GlobalAveragePooling2D(name="pool")(x)


def _residual_block(x: Any, config: ModelConfig, i: int, regularizer: Any) -> Any:
    channels, strides, name = config.width * 2 ** (i - 1), 1 if i == 1 else 2, f"block_{i}"
    y = _conv(x, channels, 3, regularizer, f"{name}_a", strides)
    y = layers.Activation(config.activation.value, name=f"{name}_a_activation")(y)
    y = _conv(y, channels, 3, regularizer, f"{name}_b")
    if strides > 1:
        x = _conv(x, channels, 1, regularizer, f"{name}_projection", strides)
    x = layers.Add(name=f"{name}_add")([x, y])
    return layers.Activation(config.activation.value, name=f"{name}_activation")(x)


def _conv(x: Any, channels: int, size: int, regularizer: Any, name: str, strides: int = 1) -> Any:
    """A convolution and its BatchNorm, whose beta makes a bias needless."""
    x = layers.Conv2D(
        channels,
        size,
        strides,
        padding="same",
        use_bias=False,
        kernel_regularizer=regularizer,
        name=f"{name}_conv",
    )(x)
    # Statistics of the whole batch, where devices share it.
    return layers.BatchNormalization(synchronized=device.is_replicated(), name=f"{name}_norm")(x)


def _transformer(inputs: Any, config: ModelConfig, data: Dataset, regularizer: Any) -> Any:
    """Pre-norm encoder blocks (Xiong et al., arXiv 2002.04745), averaged over the positions."""
    x = _embedding(data.vocabulary_size, config.width, regularizer, "tokens_embedding")(inputs)
    length = data.input_shape[0]
    positions = ops.cumsum(ops.ones_like(inputs), axis=1) - 1  # 0, 1, ... in every sequence
    x = x + _embedding(length, config.width, regularizer, "positions_embedding")(positions)
    for i in range(1, config.depth + 1):
        x = x + _attention(x, config, regularizer, f"block_{i}")
        x = x + _feed_forward(x, config, regularizer, f"block_{i}")
    x = layers.LayerNormalization(name="norm")(x)
    return layers.GlobalAveragePooling1D(name="pool")(x)


def _attention(x: Any, config: ModelConfig, regularizer: Any, name: str) -> Any:
    heads = max(1, config.width // HEAD_SIZE)
    x = layers.LayerNormalization(name=f"{name}_attention_norm")(x)
    return layers.MultiHeadAttention(
        heads,
        key_dim=config.width // heads,
        dropout=config.dropout,
        kernel_regularizer=regularizer,
        name=f"{name}_attention",
    )(x, x)


def _feed_forward(x: Any, config: ModelConfig, regularizer: Any, name: str) -> Any:
    x = layers.LayerNormalization(name=f"{name}_dense_norm")(x)
    x = layers.Dense(4 * config.width, kernel_regularizer=regularizer, name=f"{name}_dense_in")(x)
    x = layers.Activation(config.activation.value, name=f"{name}_dense_activation")(x)
    x = layers.Dense(config.width, kernel_regularizer=regularizer, name=f"{name}_dense_out")(x)
    return layers.Dropout(config.dropout, name=f"{name}_dropout")(x)


def _gru(inputs: Any, config: ModelConfig, data: Dataset, regularizer: Any) -> Any:
    x = _embedding(data.vocabulary_size, config.width, regularizer, "tokens_embedding")(inputs)
    for i in range(1, config.depth + 1):
        x = layers.GRU(
            config.width,
            return_sequences=i < config.depth,
            kernel_regularizer=regularizer,
            recurrent_regularizer=regularizer,
            name=f"gru_{i}",
        )(x)
        x = _dropout(x, config, i)
    return x


def _embedding(size: int, width: int, regularizer: Any, name: str) -> Any:
    return layers.Embedding(size, width, embeddings_regularizer=regularizer, name=name)


def _dropout(x: Any, config: ModelConfig, i: int) -> Any:
    return layers.Dropout(config.dropout, name=f"dropout_{i}")(x) if config.dropout else x


_FLAT: dict[str, Body] = {"linear": _linear, "mlp": _mlp}
_BODIES: dict[str, dict[str, Body]] = {
    "features": _FLAT,
    "image": {**_FLAT, "cnn": _cnn, "resnet": _resnet},
    "tokens": {"transformer": _transformer, "gru": _gru},
}
MODELS = tuple(sorted({name for bodies in _BODIES.values() for name in bodies}))
