"""The built-in models: uncompiled, built, with logits (or a regression) as their output.

They know nothing of regularizers: `build_model` attaches one, to these models as to a user's own.
Layers have names, so that variables have paths that can be read: `mlp/hidden_1/kernel`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

from l2keras_experiments.config import targets
from l2keras_experiments.config.compatibility import SUPPLIED, check_inputs
from l2keras_experiments.config.schema import ConfigError, ModelConfig
from l2keras_experiments.data.datasets import Dataset, named_arrays, rows
from l2keras_experiments.data.streams import StreamDataset
from l2keras_experiments.library import is_built
from l2keras_experiments.runtime import device
from l2keras_experiments.training.objectives import has_own_loss
from l2keras_experiments.training.regularization import Method

HEAD_SIZE = 16  # of attention; a model of width 32 has two heads


def build_model(
    config: ModelConfig,
    data: Dataset | StreamDataset,
    method: Method,
    seed: int,
    loss: Any = None,
) -> keras.Model:
    """The model that `config` names, for the inputs and outputs of `data`.

    Seeds Python, NumPy and the backend, so that the initial weights depend on `seed` only and
    every arm of a comparison starts from the same ones. Follows `keras.config`: floatx and the
    dtype policy.

    Args:
        config: A target and its arguments.
        data: Gives the target `input_shape`, `num_outputs` and `vocabulary_size`, where its
            signature names them; a StreamDataset does not know the last. A model without
            variables is called with an example, which makes them.
        method: Attaches its regularizer, and takes off or keeps those of the model.
        seed: Of the initial weights and of dropout.
        loss: As `TrainingConfig.loss`. A function of the user's own may take other outputs.

    Raises:
        ConfigError: a target that is not there, a model that cannot take these inputs, or one
            with other outputs than the targets.
        TargetError: the target raised, or the model when it was called.
    """
    keras.utils.set_random_seed(seed)
    about = {name: getattr(data, name) for name in SUPPLIED if hasattr(data, name)}
    targets.check_not_supplied("model", config.node, about, "the data")
    model = targets.instantiate("model", config.node, **about)
    if not isinstance(model, keras.Model):
        raise ConfigError(
            f"{config.target} must return a keras.Model. Received: {type(model).__name__}. "
            "Return the model, not compiled."
        )
    _check_inputs(model, data, config.target)
    outputs = _outputs(model, data, config.target)
    if not has_own_loss(model):
        _check_outputs(outputs, data, config.target, loss)
    method.attach(model)
    return model


def _outputs(model: keras.Model, data: Dataset | StreamDataset, target: str) -> list[Any]:
    """The outputs of a model, symbolic or of one example, which builds it.

    Raises:
        TargetError: the call raised.
    """
    if getattr(model, "outputs", None) is not None:  # functional
        return list(model.outputs)
    try:
        outputs = model(rows(data.sample_inputs, slice(1)), training=False)
    except Exception as error:  # of Keras, the backend and the user's own code
        if isinstance(error, NotImplementedError) and is_built(model):  # it is never called
            return []
        text = " ".join(str(error).split()) or "no message"
        raise targets.TargetError(
            f"{target}, called with an example of the shape {data.input_shape}, raised "
            f"{type(error).__name__}: {text}"
        ) from error
    return list(keras.tree.flatten(outputs))


def _check_inputs(model: keras.Model, data: Dataset | StreamDataset, target: str) -> None:
    """Raises ConfigError for a functional model whose inputs have other shapes than the examples.

    Shapes that differ are tried with an example, as Keras adds and removes axes of length 1.
    """
    inputs = getattr(model, "inputs", None) or []
    if not inputs or type(model).train_step is not keras.Model.train_step:  # it may convert them
        return
    arrays = dict(named_arrays(data.sample_inputs))
    given = {name: tuple(array.shape[1:]) for name, array in arrays.items()}
    taken = {one.name: tuple(one.shape[1:]) for one in inputs}
    pairs = {name: (given.get(name), shape) for name, shape in taken.items()}
    if not isinstance(data.sample_inputs, Mapping) and len(given) == len(inputs):  # by position
        pairs = dict(zip(taken, zip(given.values(), taken.values(), strict=True), strict=True))
    if all(one is not None and _matches(shape, one) for one, shape in pairs.values()):
        return
    try:
        model(rows(data.sample_inputs, slice(1)), training=False)
    except Exception:  # of Keras, or of the backend
        single = len(inputs) == len(given) == 1
        expected, received = (next(iter(given.values())), inputs[0].shape[1:]) if single else (
            data.input_shape, taken
        )  # fmt: skip
        raise ConfigError(
            f"The model must take inputs of the shape {expected}, as the examples of {data.name} "
            f"have. Received: {target} with inputs of the shape {received}. "
            "Take an argument input_shape and pass it to keras.Input."
        ) from None


def _check_outputs(
    outputs: Sequence[Any], data: Dataset | StreamDataset, target: str, loss: Any
) -> None:
    """Raises ConfigError for outputs that the targets would be broadcast to, or cannot match."""
    shapes = [tuple(output.shape[1:]) for output in outputs]
    if len(shapes) != 1:
        raise ConfigError(
            f"The model must have one output. Received: {target} with {len(shapes)} outputs of the "
            f"shapes {shapes}. Return one of them."
        )
    name = str(loss.get(targets.TARGET)) if isinstance(loss, Mapping) else loss
    if isinstance(loss, Mapping) and not name.startswith("keras."):
        return
    if data.task == "classification":
        expected = [(data.num_outputs,)]
        if data.num_outputs == 2 and name is not None and "categorical" not in name.lower():
            expected.append((1,))  # as binary cross-entropy and hinge losses take it
    else:
        expected = [data.sample_targets.shape[1:] or (1,)]
    shape = shapes[0] or (1,)
    if not any(_matches(shape, one) for one in expected):
        what = {"classification": "classes", "multilabel": "labels"}.get(data.task, "targets")
        number = f"{data.num_outputs} {what if data.num_outputs > 1 else what[:-1]}"
        raise ConfigError(
            f"The output of the model must have the shape {expected[0]} for each example, as "
            f"{data.name} has {number}. Received: {target} with the shape {shape}. "
            "Take an argument num_outputs for the size of the last layer."
        )


def _matches(shape: tuple[int | None, ...], expected: tuple[int, ...]) -> bool:
    return len(shape) == len(expected) and all(
        one in (None, other) for one, other in zip(shape, expected, strict=True)
    )


def linear(input_shape: Sequence[int], num_outputs: int) -> keras.Model:
    """One dense layer: softmax regression, or least squares."""
    inputs = _inputs("linear", input_shape)
    return _model("linear", inputs, layers.Flatten(name="flatten")(inputs), num_outputs)


def mlp(
    input_shape: Sequence[int],
    num_outputs: int,
    width: int = 128,
    depth: int = 2,
    activation: str = "relu",
    dropout: float = 0.0,
) -> keras.Model:
    """Hidden dense layers of one width."""
    inputs = _inputs("mlp", input_shape)
    x = layers.Flatten(name="flatten")(inputs)
    for i in range(1, depth + 1):
        x = layers.Dense(width, name=f"hidden_{i}")(x)
        x = layers.Activation(activation, name=f"activation_{i}")(x)
        x = _dropout(x, dropout, i)
    return _model("mlp", inputs, x, num_outputs)


def cnn(
    input_shape: Sequence[int],
    num_outputs: int,
    width: int = 16,
    depth: int = 2,
    activation: str = "relu",
    dropout: float = 0.0,
) -> keras.Model:
    """Blocks of convolution, BatchNorm, activation and pooling; each doubles the channels."""
    inputs = x = _inputs("cnn", input_shape)
    for i in range(1, depth + 1):
        x = _conv(x, width * 2 ** (i - 1), 3, f"block_{i}")
        x = layers.Activation(activation, name=f"block_{i}_activation")(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"block_{i}_pool")(x)
        x = _dropout(x, dropout, i)
    return _model("cnn", inputs, layers.Flatten(name="flatten")(x), num_outputs)


def resnet(
    input_shape: Sequence[int],
    num_outputs: int,
    width: int = 16,
    depth: int = 3,
    activation: str = "relu",
    dropout: float = 0.0,
) -> keras.Model:
    """Residual blocks after He et al., arXiv 1512.03385; each after the first halves the image."""
    inputs = _inputs("resnet", input_shape)
    x = _conv(inputs, width, 3, "stem")
    x = layers.Activation(activation, name="stem_activation")(x)
    for i in range(1, depth + 1):
        x = _residual_block(x, width * 2 ** (i - 1), 1 if i == 1 else 2, activation, f"block_{i}")
        x = _dropout(x, dropout, i)
    return _model("resnet", inputs, layers.GlobalAveragePooling2D(name="pool")(x), num_outputs)


def transformer(
    input_shape: Sequence[int],
    num_outputs: int,
    vocabulary_size: int,
    width: int = 32,
    depth: int = 2,
    activation: str = "relu",
    dropout: float = 0.0,
) -> keras.Model:
    """Pre-norm encoder blocks (Xiong et al., arXiv 2002.04745), averaged over the positions."""
    inputs = _inputs("transformer", input_shape, vocabulary_size)
    x = layers.Embedding(vocabulary_size, width, name="tokens_embedding")(inputs)
    positions = ops.cumsum(ops.ones_like(inputs), axis=1) - 1  # 0, 1, ... in every sequence
    x = x + layers.Embedding(input_shape[0], width, name="positions_embedding")(positions)
    for i in range(1, depth + 1):
        x = x + _attention(x, width, dropout, f"block_{i}")
        x = x + _feed_forward(x, width, activation, dropout, f"block_{i}")
    x = layers.LayerNormalization(name="norm")(x)
    return _model("transformer", inputs, layers.GlobalAveragePooling1D(name="pool")(x), num_outputs)


def gru(
    input_shape: Sequence[int],
    num_outputs: int,
    vocabulary_size: int,
    width: int = 32,
    depth: int = 1,
    dropout: float = 0.0,
) -> keras.Model:
    """Recurrent layers over an embedding."""
    inputs = _inputs("gru", input_shape, vocabulary_size)
    x = layers.Embedding(vocabulary_size, width, name="tokens_embedding")(inputs)
    for i in range(1, depth + 1):
        x = layers.GRU(width, return_sequences=i < depth, name=f"gru_{i}")(x)
        x = _dropout(x, dropout, i)
    return _model("gru", inputs, x, num_outputs)


def _inputs(model: str, shape: Sequence[int], vocabulary_size: int = 0) -> Any:
    """The input of a built-in model.

    Raises:
        ConfigError: the model does not take inputs of this shape.
    """
    kind = check_inputs(model, shape, vocabulary_size)
    return keras.Input(shape, dtype="int32" if kind == "tokens" else None, name=kind)


def _model(name: str, inputs: Any, features: Any, num_outputs: int) -> keras.Model:
    """A dense layer of float outputs on the features: losses need the precision."""
    dtype = keras.config.floatx()  # not the compute dtype
    outputs = layers.Dense(num_outputs, dtype=dtype, name="output")(features)
    return keras.Model(inputs, outputs, name=name)


def _residual_block(x: Any, channels: int, strides: int, activation: str, name: str) -> Any:
    y = _conv(x, channels, 3, f"{name}_a", strides)
    y = layers.Activation(activation, name=f"{name}_a_activation")(y)
    y = _conv(y, channels, 3, f"{name}_b")
    if strides > 1:
        x = _conv(x, channels, 1, f"{name}_projection", strides)
    x = layers.Add(name=f"{name}_add")([x, y])
    return layers.Activation(activation, name=f"{name}_activation")(x)


def _conv(x: Any, channels: int, size: int, name: str, strides: int = 1) -> Any:
    """A convolution and its BatchNorm, whose beta makes a bias needless."""
    x = layers.Conv2D(channels, size, strides, padding="same", use_bias=False, name=f"{name}_conv")(
        x
    )
    # Statistics of the whole batch, where devices share it.
    return layers.BatchNormalization(synchronized=device.is_replicated(), name=f"{name}_norm")(x)


def _attention(x: Any, width: int, dropout: float, name: str) -> Any:
    heads = max(1, width // HEAD_SIZE)
    x = layers.LayerNormalization(name=f"{name}_attention_norm")(x)
    return layers.MultiHeadAttention(
        heads, key_dim=width // heads, dropout=dropout, name=f"{name}_attention"
    )(x, x)


def _feed_forward(x: Any, width: int, activation: str, dropout: float, name: str) -> Any:
    x = layers.LayerNormalization(name=f"{name}_dense_norm")(x)
    x = layers.Dense(4 * width, name=f"{name}_dense_in")(x)
    x = layers.Activation(activation, name=f"{name}_dense_activation")(x)
    x = layers.Dense(width, name=f"{name}_dense_out")(x)
    return layers.Dropout(dropout, name=f"{name}_dropout")(x)


def _dropout(x: Any, rate: float, i: int) -> Any:
    return layers.Dropout(rate, name=f"dropout_{i}")(x) if rate else x
