"""In which batches an evaluation is made: those of `fit`, or wider ones that tell the same."""

from __future__ import annotations

from typing import Any

import keras

from l2keras._keras.variables import sublayers

MEANS = ("sum_over_batch_size", "mean")
# Dice, Tversky and Circle are numbers of a batch.
BY_EXAMPLE = {
    "BinaryCrossentropy", "BinaryFocalCrossentropy", "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy", "CategoricalHinge", "Hinge", "Huber", "KLDivergence", "LogCosh",
    "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredError",
    "MeanSquaredLogarithmicError", "Poisson", "SparseCategoricalCrossentropy", "SquaredHinge",
}  # fmt: skip


def widest(batch_size: int, examples: int) -> int:
    """Examples evaluated at once: three batches, as a training step holds activations three times.

    So that what `memory.bytes_per_member` says of a step is enough for an evaluation, too. Up to
    a quarter fewer where these leave no remainder, which is a program more to compile.
    """
    most = min(3 * batch_size, examples)
    widths = range(most, 3 * most // 4 - 1, -1)
    return next((width for width in widths if examples % width == 0), most)


def is_by_example(model: Any, loss: Any, metrics: Any) -> bool:
    """Whether an evaluation is a mean over examples, however they are put into batches.

    Known of Keras' own layers, metrics and most losses only. Not of a loss that is a sum over the
    batch or a mean over the steps that a mask leaves, nor of a function of the user's, which may
    compare one example with another.

    Args:
        model: Built, and called once.
        loss, metrics: As for `compile`.
    """
    return (
        all(_maps_examples(layer) for layer in sublayers(model))
        and not model.losses
        and all(_is_mean(one) for one in keras.tree.flatten(loss))
        and all(_counts_examples(one) for one in keras.tree.flatten(metrics))
    )


def _maps_examples(layer: Any) -> bool:
    makes_mask = isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False)
    operations = getattr(layer, "operations", ())  # of a model, also such as keras.ops.mean
    only_layers = all(isinstance(one, keras.Layer) for one in operations)
    opaque = isinstance(layer, keras.layers.Lambda) or makes_mask
    across = 0 in keras.tree.flatten(getattr(layer, "axis", None))
    function = getattr(layer, "activation", None)
    own = function is None or _is_keras(function)
    return _is_keras(type(layer)) and own and only_layers and not (opaque or across)


def _is_mean(loss: Any) -> bool:
    """Of the losses of a batch's examples, whatever is in it."""
    if loss is None:
        return True
    if not isinstance(loss, keras.losses.Loss):
        function = keras.losses.get(loss)
        named = str(getattr(function, "__name__", "")).replace("_", "")
        return _is_keras(function) and named in {name.lower() for name in BY_EXAMPLE}
    everything = getattr(loss, "ignore_class", None) is None
    known = _is_keras(type(loss)) and type(loss).__name__ in BY_EXAMPLE
    return known and loss.reduction in MEANS and everything


def _counts_examples(metric: Any) -> bool:
    """Whether it adds up what it sees; of a function Keras takes the mean over the batches."""
    if metric is None or isinstance(metric, str):
        return True
    return _is_keras(type(metric)) and type(metric) is not keras.metrics.MeanMetricWrapper


def _is_keras(kind: Any) -> bool:
    return str(getattr(kind, "__module__", "")).split(".")[0] == "keras"
