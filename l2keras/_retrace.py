"""Makes compiled steps forget what they were traced with."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import keras


def retrace(variables: Sequence[Any]) -> None:
    """Every live model that holds one of `variables` traces its steps anew, in mid fit too.

    A layer may be part of several compiled models, and knows none of them: Python is asked.
    """
    ids = {id(variable) for variable in variables}
    for model in _compiled_models():
        if any(id(weight) in ids for weight in model.weights):
            remake_functions(model)
    if keras.backend.backend() == "jax":
        import jax

        # jax.jit shares its cache among equal functions, and `model.train_step` equals itself.
        jax.clear_caches()


def remake_functions(model: Any) -> None:
    """Keras makes the functions again that it has made: those of a running `fit` must exist."""
    if model.train_function is not None:
        model.make_train_function(force=True)
    if model.test_function is not None:
        model.make_test_function(force=True)


def _compiled_models() -> list[Any]:
    return [
        found
        for found in gc.get_objects()
        if issubclass(type(found), keras.Model)
        and (getattr(found, "train_function", None) or getattr(found, "test_function", None))
    ]
