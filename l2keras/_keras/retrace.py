"""Makes compiled steps forget what they were traced with."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import keras


def retrace(variables: Sequence[Any]) -> None:
    """Every compiled model that holds one of `variables` traces its steps anew, in mid fit too.

    A layer may be part of several models, and knows none of them: Python is asked.
    """
    ids = {id(variable) for variable in variables}
    holders = [
        model for model in _compiled_models() if any(id(weight) in ids for weight in model.weights)
    ]
    for model in holders:
        remake_functions(model)
    if holders:
        _clear_shared_traces()


def _clear_shared_traces() -> None:
    if keras.backend.backend() == "jax":
        import jax

        # jax.jit shares its cache among equal functions, and the `train_step` of a model is
        # equal to itself: whoever holds an old step would have the new one use its trace.
        jax.clear_caches()


def remake_functions(model: Any) -> None:
    """Keras makes the functions again that it has made: those of a running `fit` must exist."""
    sync_state(model)
    if model.train_function is not None:
        model.make_train_function(force=True)
    if model.test_function is not None:
        model.make_test_function(force=True)


def sync_state(model: Any) -> None:
    """On JAX a running epoch has taken the values out of the variables: puts them back."""
    sync = getattr(model, "jax_state_sync", None)
    if sync is not None:
        state = getattr(model.train_function, "state", None)  # of a WeightDecay
        if state is not None:
            state.sync_optimizer()
        sync()


def is_traced(model: Any) -> bool:
    """Whether the train step runs in Python once, while it is traced, and not at every batch."""
    backend = keras.backend.backend()
    if model.run_eagerly or backend == "torch":
        return False
    return backend == "tensorflow" or bool(model.jit_compile)


def _compiled_models() -> list[Any]:
    return [
        found
        for found in gc.get_objects()
        if issubclass(type(found), keras.Model) and getattr(found, "compiled", False)
    ]
