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
from l2keras._keras.losses import evaluated, penalized
from l2keras._keras.variables import has_variables
from l2keras._split import Split, split_for, unknown

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
    with keras.StatelessScope(state_mapping=mapping) if mapping else nullcontext():
        losses = [variable.regularizer(variable) for variable in penalized(model)]
        return _sum(evaluated(losses)) / optimizers.num_replicas()


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

    The step of the model stays as it is: with and without the callback the weights are the same,
    to the last bit where penalties are added to the loss. Where your loss multiplies them, the
    graph optimizer of TensorFlow may round the last bit of a step in another way.

    In a `compute_loss` of your own a penalty counts as its gradient enters the loss: 0.1 times in
    `0.1 * super().compute_loss(...)`, not at all behind `stop_gradient`. Penalties are found where
    `compute_loss` reads `self.losses`, the `losses` of a layer, or `model_penalty(self)`. A
    penalty that is written out by hand stays in `data_loss`.

    The parts are taken where the step adds them up, and kept as metrics of the model while the
    callback's `fit` or `evaluate` runs. So they cost no pass over the data or the weights, are
    in the logs before any callback reads them (the order of callbacks is free), and reach the
    History, CSVLogger and the progress bar. `EarlyStopping(monitor="val_data_loss")` needs no
    `mode`. An `evaluate` that another callback calls meanwhile returns the parts too.
    Source: keras/src/trainers/trainer.py, `compute_loss`.

    Raises:
        ValueError: the model has a metric of one of these names, or a `PenaltySplit` already.
        RuntimeError: the split is not exact, at the second step or at the end of the first epoch.
            A step must call `compute_loss` once, the loss must be linear in the penalties, and
            `loss` in the logs must be the mean of what `compute_loss` returns.

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
        self._split: Split | None = None
        self._in_fit = False

    @_calls.explained("PenaltySplit.set_model", remedy=_MADE)
    def set_model(self, model: Any) -> None:
        """Takes the model from `fit`; raises where `callbacks` holds the class."""
        super().set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the loss apart in every step of this `fit`."""
        self._begin(in_fit=True)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Follows a step that was made again, and raises if the first could not be split."""
        self._raise_problem()
        if self._split is not None:
            self._split.refresh("train")

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """The same in an `evaluate` of its own; that of a `fit` is split already."""
        if not self._in_fit or self._split is None:
            self._begin(in_fit=False)
        if self._split is not None:
            self._split.refresh("test")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Raises where the parts would not be exact, rather than log a wrong number."""
        self._raise_problem()
        if self._split is None or logs is None:
            return
        self._split.check_names()
        self._check(logs, "")
        if any(name.startswith("val_") for name in logs):  # not in each epoch
            self._check(logs, "val_")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leaves the model as it was."""
        self._in_fit = False
        self._end()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leaves the model as it was, after an `evaluate` of its own."""
        if not self._in_fit:
            self._raise_problem()
            if logs is not None:
                self._check(logs, "")
            self._end()

    def _begin(self, *, in_fit: bool) -> None:
        run = _run()
        self._split = None
        split = split_for(self.model, in_fit=in_fit)
        split.begin(run)
        self._split, self._in_fit = split, in_fit

    def _check(self, logs: dict[str, Any], prefix: str) -> None:
        """Raises where loss = data_loss + penalty does not hold; a loss of nan says nothing."""
        names = [f"{prefix}{name}" for name in ("loss", "data_loss", "penalty")]
        if names[1] not in logs or names[2] not in logs:
            self._fail(_other_logs(self.model, logs))
        loss, data_loss, penalty = (float(logs.get(name, math.nan)) for name in names)
        tolerance = 1e-3 if keras.config.floatx() in ("float32", "float64") else 0.1
        rounding = tolerance * (abs(loss) + abs(data_loss) + abs(penalty))
        if math.isfinite(loss) and math.isnan(penalty):
            self._fail(unknown(self.model))
        if math.isfinite(loss) and not abs(loss - data_loss - penalty) <= rounding:
            parts = f"{names[0]}={loss:g}", f"{data_loss:g} + {penalty:g}"
            self._fail(_other_loss(self.model, *parts))

    def _raise_problem(self) -> None:
        if self._split is not None and self._split.problem is not None:
            self._fail(self._split.problem)

    def _fail(self, problem: str) -> None:
        self._in_fit = False
        self._end()
        raise RuntimeError(problem)

    def _end(self) -> None:
        if self._split is not None:
            self._split.end()
            self._split = None


def _run() -> FrameType | None:
    """The frame of the `fit` or `evaluate` whose callbacks begin."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_name in (
        "_run",
        "_begin",
        "on_train_begin",
        "on_test_begin",
    ):
        frame = frame.f_back
    return frame


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


def _other_logs(model: Any, logs: dict[str, Any]) -> str:
    return _validation.error(
        "`PenaltySplit` needs the metrics of the model in the logs.",
        f"{type(model).__name__}, whose train_step or metrics leave them out: {', '.join(logs)}",
        "Return self.get_metrics_result() and extend super().metrics, or drop PenaltySplit.",
    )


def _other_loss(model: Any, logged: str, parts: str) -> str:
    return _validation.error(
        "`PenaltySplit` needs the mean of what `compute_loss` returns as loss in the logs.",
        f"{type(model).__name__} with {logged}, and data_loss + penalty = {parts}",
        "Log what self.compute_loss returns, or drop PenaltySplit.",
    )
