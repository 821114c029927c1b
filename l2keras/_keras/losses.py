"""The penalties that a step evaluates, and metrics added to a model that is compiled."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras

from l2keras._keras.variables import sublayers

Collect = Callable[[Sequence[Any]], list[Any]]

_COLLECT: ContextVar[Collect | None] = ContextVar("collect", default=None)
_READ = "_get_regularization_losses"


def penalized(model: Any) -> list[Any]:
    """The variables whose regularizers Keras evaluates: trainable ones, each once."""
    return [variable for variable in model.trainable_weights if variable.regularizer is not None]


@contextmanager
def collected(collect: Collect) -> Iterator[None]:
    """Inside the block `collect` gets the penalties that are evaluated, and may replace them."""
    token = _COLLECT.set(collect)
    try:
        yield
    finally:
        _COLLECT.reset(token)


def evaluated(penalties: Sequence[Any]) -> list[Any]:
    """Reports penalties to the block of `collected`, if there is one."""
    collect = _COLLECT.get()
    return list(penalties) if collect is None else collect(penalties)


def watch(model: Any) -> list[Any]:
    """Reports the penalties of every read of `losses`, of the model or of a layer inside it.

    Returns:
        The layers, for `unwatch`.
    """
    layers = [layer for layer in sublayers(model) if _READ not in vars(layer)]
    for layer in layers:
        vars(layer)[_READ] = _reporting(getattr(layer, _READ))
    return layers


def unwatch(layers: Sequence[Any]) -> None:
    """Leaves the layers as they were."""
    for layer in layers:
        vars(layer).pop(_READ, None)


def _reporting(read: Callable[[], list[Any]]) -> Callable[[], list[Any]]:
    return lambda: evaluated(read())


def add_metrics(model: Any, metrics: Sequence[Any]) -> Any:
    """Makes a container of metrics and adds it to a compiled model.

    The container is one of those in which EarlyStopping looks up a metric's direction.
    """
    compile_utils: Any = importlib.import_module("keras.src.trainers.compile_utils")
    container = compile_utils.MetricsList(list(metrics))
    container.result = container.get_result
    model._metrics.append(container)
    return container


def is_better_if_higher(metric: Any) -> bool | None:
    """Whether a Keras metric is to grow; None where it does not say."""
    direction = getattr(metric, "_direction", None)
    return None if direction is None else direction == "up"


def uncounted_name(metric: Any) -> str:
    """The name of a metric, without the number that Keras appends to that of its class."""
    naming: Any = importlib.import_module("keras.src.utils.naming")
    plain = str(naming.to_snake_case(type(metric).__name__))
    counted = re.fullmatch(rf"{re.escape(plain)}_\d+", metric.name)
    return plain if counted else str(metric.name)


def add_container(model: Any, container: Any) -> None:
    """Adds a container again that `remove_metrics` took out."""
    model._metrics.append(container)


def can_update_metrics() -> bool:
    """False on JAX where a step holds the values, as arguments, and no scope gives them."""
    return keras.backend.backend() != "jax" or stateless_scope() is not None


def is_readable(variable: Any) -> bool:
    """Whether the variable has a value here: on JAX its scope may be that of another metric."""
    scope = stateless_scope()
    given = None if scope is None else scope.get_current_value(variable)
    return given is not None or variable._value is not None


def stateless_scope() -> Any:
    """The scope that holds the values of variables, if there is one."""
    backend: Any = importlib.import_module("keras.src.backend")
    return backend.get_stateless_scope() if backend.in_stateless_scope() else None


def remove_metrics(model: Any, container: Any) -> None:
    """Takes the container out again, if it is there."""
    model._metrics[:] = [metric for metric in model._metrics if metric is not container]
