"""In which batches an evaluation is made: those of `fit`, or wider ones that tell the same."""

from __future__ import annotations

from typing import Any

import keras

from l2keras._keras.variables import sublayers

MEANS = ("sum_over_batch_size", "mean")


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

    Known of Keras' own layers, losses and metrics only. Not of a loss that is a sum over the batch
    or a mean over the steps that a mask leaves, nor of a function of the user's, which may compare
    one example with another.

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
    return _is_keras(type(layer)) and only_layers and not opaque


def _is_mean(loss: Any) -> bool:
    """Of the losses of a batch's examples, whatever is in it."""
    if not isinstance(loss, keras.losses.Loss):
        return loss is None or _is_keras(keras.losses.get(loss))
    everything = getattr(loss, "ignore_class", None) is None
    return _is_keras(type(loss)) and loss.reduction in MEANS and everything


def _counts_examples(metric: Any) -> bool:
    """Whether it adds up what it sees; of a function Keras takes the mean over the batches."""
    if metric is None or isinstance(metric, str):
        return True
    return _is_keras(type(metric)) and type(metric) is not keras.metrics.MeanMetricWrapper


def _is_keras(kind: Any) -> bool:
    return str(getattr(kind, "__module__", "")).split(".")[0] == "keras"
