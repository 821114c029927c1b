"""Compiled functions inside a step of TensorFlow, which keep what they were traced with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras

from l2keras import _validation

REMEDY = "Leave out @tf.function inside the step: Keras compiles the step itself"

_KERAS_STEP = "one_step_on_data"  # the function that Keras makes of a step


class _Step:
    """A step that is traced, or run, now."""

    def __init__(self) -> None:
        self.graph = next(iter(_function_graphs()), None)  # None in eager mode
        self.problem: str | None = None


_STEP: ContextVar[_Step | None] = ContextVar("keras_step", default=None)


@contextmanager
def step() -> Iterator[None]:
    """Inside the block a step runs, for `check_traced_anew`, whose error leaves it on one line."""
    current = _Step()
    token = _STEP.set(current)
    try:
        yield
    except Exception:  # AutoGraph adds the lines of the user's code to the message
        if current.problem is None:
            raise
        raise RuntimeError(current.problem) from None
    finally:
        _STEP.reset(token)


def check_traced_anew(owner: str) -> None:
    """Raises RuntimeError inside a tf.function that a step calls: its trace outlives the `fit`.

    Outside of `step` only the steps that Keras compiles count.
    """
    graphs, current = _function_graphs(), _STEP.get()
    if current is not None:
        is_inner = bool(graphs) and graphs[0] is not current.graph
    else:
        is_inner = any(graph.name == _KERAS_STEP for graph in graphs[1:])
    if not is_inner:
        return
    problem = _validation.error(
        f"{owner} needs a step that Keras traces as a whole.",
        f"the tf.function `{graphs[0].name}` inside it, which keeps what it was traced with",
        f"{REMEDY}.",
    )
    if current is not None:
        current.problem = problem
    raise RuntimeError(problem)


def is_inside() -> bool:
    """Whether TensorFlow traces a function now that is not the step itself."""
    graphs, current = _function_graphs(), _STEP.get()
    return bool(graphs) and (current is None or graphs[0] is not current.graph)


def compiled_functions(model: Any) -> list[str]:
    """The names of the attributes and methods of `model` that are a tf.function."""
    if keras.backend.backend() != "tensorflow":
        return []
    import tensorflow as tf

    kind = tf.types.experimental.PolymorphicFunction
    owners = [model, *type(model).__mro__]
    attributes = [pair for owner in owners for pair in vars(owner).items()]
    return sorted({name for name, value in attributes if isinstance(value, kind)})


def _function_graphs() -> list[Any]:
    """The graphs of the functions that TensorFlow traces now, the innermost first.

    Those of the bodies of tf.cond and tf.while_loop, which have classes of their own, are left out.
    """
    if keras.backend.backend() != "tensorflow":
        return []
    import tensorflow as tf

    if tf.executing_eagerly():
        return []
    graphs: list[Any] = []
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        if type(graph).__name__ == "FuncGraph":
            graphs.append(graph)
        graph = getattr(graph, "outer_graph", None)
    return graphs
