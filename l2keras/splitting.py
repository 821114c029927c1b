"""The loss without its weight penalty: in the logs of `fit`, and in custom training loops."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import reduce
from types import FrameType
from typing import Any

import keras
from keras import ops

from l2keras import _calls, _validation
from l2keras._keras import optimizers
from l2keras._keras.losses import (
    add_metrics,
    losses_once,
    note_read,
    penalized,
    remove_metrics,
)
from l2keras._keras.retrace import remake_functions
from l2keras._keras.variables import has_variables

_MADE = "Pass a callback that is made: callbacks=[PenaltySplit()]."


@_calls.explained("model_penalty")
def model_penalty(model: Any, trainable_variables: Sequence[Any] | None = None) -> Any:
    """The penalty of a model's weights, for the loss of a custom training loop.

    Convention: each regularizer's own; `HalfL2(lam)` counts (lam / 2) * sum(W ** 2).

        loss = data_loss + model_penalty(model)

    Within a replica of `tf.distribute` it is divided by the number of replicas, so that
    gradients that are summed over them, as Keras' optimizers and strategies do, have it once;
    `sum(model.losses)` would have it once for each. As in `fit`, frozen weights have no penalty.
    Activity regularizers and `add_loss` are not in it. Source: `tf.nn.scale_regularization_loss`.

    Args:
        model: A built Keras model.
        trainable_variables: On JAX, the values to take in the place of those of
            `model.trainable_variables`, in its order, as `model.stateless_call` takes them.

    Returns:
        Scalar tensor in the dtype of the penalties, `keras.config.floatx()` or better; 0 where
        nothing is penalized.

    Raises:
        TypeError: `model` is no Keras model, or `trainable_variables` no sequence.
        ValueError: the model is not built, or the values are not those of its variables.

    Example:

    >>> import numpy as np
    >>> import l2keras
    >>> layer = keras.layers.Dense(1, kernel_regularizer=l2keras.HalfL2(0.5))
    >>> model = keras.Sequential([keras.Input((1,)), layer])
    >>> layer.set_weights([np.full((1, 1), 2.0), np.zeros(1)])
    >>> print(keras.ops.convert_to_numpy(model_penalty(model)))  # 0.5 / 2 * 2 ** 2
    1.0
    """
    if not isinstance(model, keras.Layer):
        raise TypeError(_no_model(model))
    values, variables = _listed(trainable_variables), model.trainable_variables
    if not has_variables(model):
        raise ValueError(_not_built(model))
    if values is not None and len(values) != len(variables):
        raise ValueError(_wrong_length(len(values), len(variables)))
    mapping = [] if values is None else _paired(variables, values)
    note_read(model)
    with keras.StatelessScope(state_mapping=mapping) if mapping else nullcontext():
        losses = [variable.regularizer(variable) for variable in penalized(model)]
        return _sum(losses) / optimizers.num_replicas()


def _listed(values: Any) -> list[Any] | None:
    """The values as a list, None where there are none; a dict or a single tensor is no list."""
    if values is None or isinstance(values, (list, tuple)):
        return values if values is None else list(values)
    raise TypeError(
        _validation.error(
            "`trainable_variables` must be a list of values.",
            f"trainable_variables={_validation.shown(values)} of type {type(values).__name__}",
            "Pass the list that `model.stateless_call` takes.",
        )
    )


def _paired(variables: Sequence[Any], values: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Each variable with its value as a tensor."""
    pairs = []
    for variable, value in zip(variables, values, strict=True):
        try:
            tensor = ops.convert_to_tensor(value, variable.dtype)
            fits = tuple(tensor.shape) == tuple(variable.shape)
        except Exception:  # of the backend, for what is no tensor
            fits = False
        if not fits:
            raise ValueError(_wrong_value(variable, value))
        pairs.append((variable, tensor))
    return pairs


def _sum(losses: Sequence[Any]) -> Any:
    return reduce(ops.add, map(ops.sum, losses), ops.zeros((), keras.config.floatx()))


class PenaltySplit(keras.callbacks.Callback):
    """Logs `data_loss` and `penalty` beside `loss`, so that EarlyStopping can watch the data.

    Convention: none of its own; each regularizer counts as Keras counts it in the loss, so

        loss = data_loss + penalty                val_loss = val_data_loss + val_penalty

    `penalty` is the sum of the regularizers of the trainable weights, averaged over the epoch
    exactly as Keras averages `loss`: at the weights of each step, weighted by its batch size.
    `val_penalty` is that of the weights at the end of the epoch. Activity regularizers and
    `add_loss` depend on the data, and stay in `data_loss`.

    A `compute_loss` of your own has a penalty in the steps in which it reads `self.losses` (as
    `super().compute_loss` does) or calls `model_penalty(self)`. In the others none is counted:
    `penalty` is 0, and `data_loss` the whole loss.

    The parts are taken where the step adds them up, and kept as metrics of the model while the
    callback's `fit` or `evaluate` runs. So they cost no pass over the data or the weights, are
    in the logs before any callback reads them (the order of callbacks is free), and reach the
    History, CSVLogger and the progress bar. `EarlyStopping(monitor="val_data_loss")` needs no
    `mode`. An `evaluate` that another callback calls meanwhile returns the parts too.
    Source: keras/src/trainers/trainer.py, `compute_loss`.

    Raises:
        ValueError: the model has a metric of one of these names, or a `PenaltySplit` already.
        RuntimeError: the model has a `train_step` that never calls `compute_loss`, or returns
            other logs than its metrics'.

    Example:

    >>> import l2keras
    >>> layer = keras.layers.Dense(
    ...     1, kernel_initializer="ones", kernel_regularizer=l2keras.HalfL2(0.5)
    ... )
    >>> model = keras.Sequential([keras.Input((1,)), layer])
    >>> model.compile(keras.optimizers.SGD(0.5), "mse")
    >>> x, y = keras.ops.zeros((1, 1)), keras.ops.ones((1, 1))
    >>> history = model.fit(x, y, verbose=0, callbacks=[PenaltySplit()]).history
    >>> history["loss"], history["data_loss"], history["penalty"]
    ([1.25], [1.0], [0.25])
    """

    @_calls.explained("PenaltySplit")
    def __init__(self) -> None:
        super().__init__()
        self._split: _Split | None = None
        self._in_fit = False

    @_calls.explained("PenaltySplit.set_model", remedy=_MADE)
    def set_model(self, model: Any) -> None:
        """Takes the model from `fit`; raises where `callbacks` holds the class."""
        super().set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the loss apart in every step of this `fit`."""
        self._split = _Split(self.model, _run())
        self._in_fit = True

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """The same in an `evaluate` of its own; that of a `fit` is split already."""
        if not self._in_fit or self._split is None:
            self._split = _Split(self.model, _run())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Raises where the step went past `compute_loss`, rather than log a wrong number."""
        if self._split is None or logs is None:
            return
        self._split.check_names()
        if math.isnan(logs.get("data_loss", math.nan)) and not math.isnan(logs.get("loss", 0.0)):
            raise RuntimeError(_went_past(self.model))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leaves the model as it was."""
        self._in_fit = False
        self._end()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leaves the model as it was, after an `evaluate` of its own."""
        if not self._in_fit:
            self._end()

    def _end(self) -> None:
        if self._split is not None:
            self._split.remove()
            self._split = None


class _Part(keras.metrics.Mean):
    """The mean over an epoch, nan before its first step."""

    _direction = "down"  # less is better: EarlyStopping(mode="auto") reads this

    def result(self) -> Any:
        return self.total / self.count


class _Split:
    """Stands in for `model.compute_loss`, and adds up the two parts of what it returns."""

    def __init__(self, model: Any, run: FrameType | None) -> None:
        self._run = run
        left_over = vars(model).get("compute_loss")
        if isinstance(left_over, _Split):
            second = _is_running(left_over._run)  # else a `fit` that ended in an exception
            left_over.remove()
            if second:
                raise ValueError(_second())
        self._model = model
        self._kept = {key: value for key, value in vars(model).items() if key == "compute_loss"}
        self._compute_loss = model.compute_loss
        strategy = getattr(model, "distribute_strategy", None)  # TensorFlow's
        with nullcontext() if strategy is None else strategy.scope():
            self._parts = _Part(name="data_loss"), _Part(name="penalty")
        self._container = add_metrics(model, self._parts)
        self._container.reset_state = self._reset
        self.check_names()
        vars(model)["compute_loss"] = self
        remake_functions(model)

    def __call__(
        self, x: Any = None, y: Any = None, y_pred: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        with losses_once(self._model) as losses:
            total = self._compute_loss(x, y, y_pred, *args, **kwargs)
        data_loss, penalty = self._parts
        count = len(penalized(self._model)) if losses.were_read else 0
        last = losses.values[len(losses.values) - count :]  # where Keras lists the penalties
        penalties = ops.cast(_sum(last), penalty.dtype)
        rest = ops.cast(total, penalty.dtype) * optimizers.num_replicas() - penalties
        samples = next(leaf for leaf in keras.tree.flatten((x, y_pred)) if leaf is not None)
        data_loss.update_state(rest, sample_weight=ops.shape(samples)[0])
        penalty.update_state(penalties, sample_weight=ops.shape(samples)[0])
        return total

    def check_names(self) -> None:
        """Raises where a metric of the model has one of the two names."""
        others = [metric for metric in self._model.metrics if metric is not self._container]
        names = [m.name for metric in others for m in (metric, *getattr(metric, "metrics", []))]
        taken = [part.name for part in self._parts if part.name in names]
        if taken:
            self.remove()
            raise ValueError(_name_taken(taken[0]))

    def remove(self) -> None:
        """Leaves the model as it was."""
        self._run = None  # a frame keeps all its variables alive
        if vars(self._model).get("compute_loss") is self:
            vars(self._model).pop("compute_loss")
            vars(self._model).update(self._kept)
        remove_metrics(self._model, self._container)
        remake_functions(self._model)

    def _reset(self) -> None:
        """Keras resets the metrics when an epoch or evaluation begins: does our `fit` still run?"""
        if not _is_running(self._run):  # it ended in an exception, and this is another
            self.remove()
        for part in self._parts:
            part.reset_state()


def _run() -> FrameType | None:
    """The frame of the `fit` or `evaluate` whose callbacks begin."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_name in ("_run", "on_train_begin", "on_test_begin"):
        frame = frame.f_back
    return frame


def _is_running(run: FrameType | None) -> bool:
    frame = inspect.currentframe()
    while frame is not None and frame is not run:
        frame = frame.f_back
    return frame is not None


def _no_model(model: Any) -> str:
    return _validation.error(
        "`model_penalty` needs a Keras model.",
        f"model={_validation.shown(model)} of type {type(model).__name__}",
        "Pass the keras.Model whose loss it belongs to.",
    )


def _wrong_value(variable: Any, value: Any) -> str:
    return _validation.error(
        f"`trainable_variables` must have a value of shape {tuple(variable.shape)} for "
        f"{variable.path}.",
        _validation.shown(value),
        "Pass the values in the order of `model.trainable_variables`.",
    )


def _not_built(model: Any) -> str:
    return _validation.error(
        "`model_penalty` needs a model whose weights exist.",
        f"{type(model).__name__} {model.name}, which is not built",
        "Build it first: model.build(input_shape), or call it on a batch.",
    )


def _wrong_length(received: int, expected: int) -> str:
    return _validation.error(
        f"`trainable_variables` must have {expected} values, as `model.trainable_variables` has.",
        f"{received} values",
        "Pass the list that `model.stateless_call` takes.",
    )


def _second() -> str:
    return _validation.error(
        "A model's loss is split by one `PenaltySplit`.",
        "a second one in the same `fit` or `evaluate`",
        "Pass one PenaltySplit only.",
    )


def _went_past(model: Any) -> str:
    return _validation.error(
        "`PenaltySplit` acts through `model.compute_loss` and the metrics of the model.",
        f"{type(model).__name__}, whose train_step does not call it or returns other logs",
        "Call self.compute_loss and return self.get_metrics_result() in train_step.",
    )


def _name_taken(name: str) -> str:
    return _validation.error(
        "`PenaltySplit` logs `data_loss` and `penalty`.",
        f"a model with a metric named {name}",
        "Rename the metric.",
    )
