"""Layers that are made to be looked at only, and leave no trace in Keras' global state."""

from __future__ import annotations

import copy
import importlib
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras

# The counters of automatic names, the variables that are to be initialized later (Keras would
# do it at the end of the next scope, and keep them until then), and the unseeded generator.
_TRACES = ("object_name_uids", "uninitialized_variables", "global_seed_generator")


@contextmanager
def rehearsal(*, with_arrays: bool) -> Iterator[None]:
    """Inside the block layers can be made and built; names and seeds go on as if none had been.

    Without arrays a variable has its shape and its regularizer, and no value. A layer that
    reads or computes one where it is built may raise then.
    """
    tracker: Any = importlib.import_module("keras.src.backend.common.global_state")
    state = tracker.GLOBAL_STATE_TRACKER
    traces = {name: _copied(getattr(state, name, None)) for name in _TRACES}
    seeds = random.getstate()  # Keras draws the seeds of initializers from it
    with ExitStack() as stack:
        if not with_arrays:
            stack.enter_context(keras.StatelessScope(initialize_variables=False))
        try:
            yield
        finally:
            random.setstate(seeds)
            for name, value in traces.items():
                setattr(state, name, value)


def _copied(value: Any) -> Any:
    """A copy of a list or a dict of Keras, and anything else itself."""
    return copy.copy(value) if isinstance(value, (list, dict)) else value
