"""The model that all members share: its variables, and its step as a function of their values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from l2keras import _validation
from l2keras._keras.variables import is_built


class Template:
    """A model with its loss and metrics, called with the variables of any member.

    Args:
        build_model: Returns a Keras model; its weights follow `keras.utils.set_random_seed`.
        loss, metrics: As for `compile`.
        x, y: Some examples.
        seed: Of the model that becomes the template.

    Attributes:
        rank: Axes of a batch; of the first array, where x is a structure of arrays.
        metric_names: Those of the results of `metrics`.

    Raises:
        ValueError: the loss, or a metric, is not one number for a batch.
    """

    def __init__(
        self, build_model: Callable[[], Any], loss: Any, metrics: Any, x: Any, y: Any, seed: int
    ) -> None:
        self._build_model = build_model
        x, y = keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y))  # as `fit` has them
        self._x = x
        self.rank = len(keras.tree.flatten(x)[0].shape)
        self.model = self.build(seed)
        parameters = inspect.signature(self.model.compute_loss).parameters
        self._knows_training = "training" in parameters  # an older one of the user's may not
        first_loss, results = self._first_batch(x, y, loss, metrics)
        _check_number("the loss", first_loss)
        for name, value in results.items():
            _check_number(f"the metric {name}", value)
        self.metric_names = [name for name in results if name != "loss"]
        self.model.reset_metrics()
        self.trainable = list(self.model.trainable_variables)
        self.other = list(self.model.non_trainable_variables)
        metric_variables = {id(v): v for v in self.model.metrics_variables}
        self.metrics = list(metric_variables.values())
        fresh = [np.array(keras.ops.convert_to_numpy(v)) for v in self.metrics]
        self.fresh_metrics = [keras.ops.convert_to_tensor(value) for value in fresh]

    def _first_batch(self, x: Any, y: Any, loss: Any, metrics: Any) -> tuple[Any, dict[str, Any]]:
        """The loss and the results of the metrics, which make their variables here."""
        try:
            self.model.compile(optimizer="sgd", loss=loss, metrics=metrics)
            outputs = self.model(x, training=False)
            value = self._loss(x, y, outputs, training=False)
            self.model.compute_metrics(x, y, outputs)
            return value, _flat(self.model.get_metrics_result())
        except Exception as problem:  # Keras, the backend and the user's own code raise many
            raise ValueError(
                _validation.error(
                    "`loss`, `metrics`, `x` and `y` must go with the model, as in `compile` and "
                    "`fit`.",
                    f"loss={_validation.shown(loss)}, metrics={_validation.shown(metrics)}, with "
                    f"which Keras raises {_validation.brief(problem)}",
                    "Try model.compile and model.evaluate alone.",
                )
            ) from problem

    def build(self, seed: int) -> Any:
        """The model as `build_model` makes it after seeding with `seed`, with its variables."""
        keras.utils.set_random_seed(seed)
        try:
            model = self._build_model()
        except Exception as problem:  # whatever the function raises
            raise ValueError(_no_model(_validation.brief(problem))) from problem
        if not isinstance(model, keras.Model):
            received = f"{_validation.shown(model)} of type {type(model).__name__}"
            raise TypeError(_no_model(received))
        if not is_built(model):
            try:
                model(self._x, training=False)
            except Exception as problem:  # of Keras, the backend and the user's own code
                received = f"{_validation.shown(model)}, whose call on `x` raises "
                raise ValueError(_no_model(received + _validation.brief(problem))) from problem
        return model

    def initial(self, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Values of the trainable and of the other variables before training."""
        model = self.build(seed)
        known = {id(variable) for variable in self.trainable}
        again = [v.path for v in model.trainable_variables if id(v) in known]
        if again:
            raise ValueError(
                _validation.error(
                    "`build_model` must build a new model, of new layers, at every call.",
                    f"{again[0]} of the model before",
                    "Make the layers inside of it; keras.models.clone_model copies a model.",
                )
            )
        shapes = [tuple(v.shape) for v in model.trainable_variables]
        if shapes != [tuple(v.shape) for v in self.trainable]:
            raise ValueError(
                _validation.error(
                    "`build_model` must build the same model at every call.",
                    f"trainable variables of shapes {shapes} after others",
                    "Leave anything that changes out of it.",
                )
            )
        return _values(model.trainable_variables), _values(model.non_trainable_variables)

    def member(self, weights: Sequence[Sequence[np.ndarray]]) -> Any:
        """A model of its own with these trainable and other values."""
        model = self._build_model()
        if not is_built(model):
            model(self._x, training=False)
        variables = [*model.trainable_variables, *model.non_trainable_variables]
        for variable, value in zip(variables, [*weights[0], *weights[1]], strict=True):
            variable.assign(value)
        return model

    def weights(self, values: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
        """The same in the order of `get_weights`, which leaves the seeds of dropout out."""
        variables = [*self.trainable, *self.other]
        known = {id(v): a for v, a in zip(variables, [*values[0], *values[1]], strict=True)}
        return [known[id(variable)] for variable in self.model.weights]

    def train_step(self, trainable: Any, other: Any, metrics: Any, x: Any, y: Any) -> Any:
        """(loss, new other, new metrics) of a member on a batch."""
        return self._step(trainable, other, metrics, x, y, training=True)

    def test_step(self, trainable: Any, other: Any, metrics: Any, x: Any, y: Any) -> Any:
        """(loss, new metrics) of a member on a batch, as in `evaluate`."""
        loss, _, metrics = self._step(trainable, other, metrics, x, y, training=False)
        return loss, metrics

    def _step(
        self, trainable: Any, other: Any, metrics: Any, x: Any, y: Any, *, training: bool
    ) -> Any:
        pairs = [
            *zip(self.trainable, trainable, strict=True),
            *zip(self.other, other, strict=True),
            *zip(self.metrics, metrics, strict=True),
        ]
        with _Scope(state_mapping=pairs, collect_losses=True) as scope:
            outputs = self.model(x, training=training)
            loss = self._loss(x, y, outputs, training)
            self.model.compute_metrics(x, y, outputs)
        scope.check({id(variable) for variable in [*self.other, *self.metrics]})
        return (
            loss,
            [scope.get_current_value(variable) for variable in self.other],
            [scope.get_current_value(variable) for variable in self.metrics],
        )

    def _loss(self, x: Any, y: Any, outputs: Any, training: bool) -> Any:
        known = {"training": training} if self._knows_training else {}
        return self.model.compute_loss(x=x, y=y, y_pred=outputs, **known)

    def metric_results(self, metrics: Any) -> dict[str, Any]:
        """The values of a member's metrics by name; the loss is not among them."""
        pairs = list(zip(self.metrics, metrics, strict=True))
        with keras.StatelessScope(state_mapping=pairs):
            results = _flat(self.model.get_metrics_result())
        return {name: value for name, value in results.items() if name != "loss"}


class _Scope(keras.StatelessScope):
    """Remembers what is assigned."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._assigned: dict[int, Any] = {}

    def add_update(self, update: tuple[Any, Any]) -> None:
        self._assigned[id(update[0])] = update[0]
        super().add_update(update)

    def check(self, kept: set[int]) -> None:
        """Raises ValueError for an assignment to another variable, which would be lost."""
        lost = [variable for key, variable in self._assigned.items() if key not in kept]
        if lost:
            raise ValueError(
                _validation.error(
                    "`sweep` needs a model that assigns, in its call, no trainable variable and "
                    "none that it does not own.",
                    f"an assignment to {lost[0].path}",
                    "Leave out the layer that does so; for keras.random give the layer a "
                    "keras.random.SeedGenerator, and pass it as seed=.",
                )
            )


def _no_model(received: str) -> str:
    return _validation.error(
        "`build_model` must return a Keras model that takes `x`.",
        received,
        "Pass a function without arguments that builds one.",
    )


def _flat(results: dict[str, Any]) -> dict[str, Any]:
    """With the numbers of a metric that has several, as `fit` logs them."""
    flat: dict[str, Any] = {}
    for name, value in results.items():
        flat |= _flat(value) if isinstance(value, dict) else {name: value}
    return flat


def _check_number(what: str, value: Any) -> None:
    shape = tuple(getattr(value, "shape", ()))
    if shape != ():
        raise ValueError(
            _validation.error(
                "`sweep` needs a loss and metrics that are one number for a batch.",
                f"{what} of shape {shape}",
                "Average it: losses with reduction=, F1Score and the like with average=.",
            )
        )


def _values(variables: Sequence[Any]) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
