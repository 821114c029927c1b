"""The file of a Keras model."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any


def save(model: Any, path: Path) -> None:
    """`model.save(path)`, in half the time.

    Keras 3.15.1 makes a layer, an optimizer and so on for every object that it saves, to see which
    attributes all of their kind have: it keeps their names under one key and looks for them under
    another. They depend on the kind alone.
    """
    from keras.src.saving import saving_lib

    names = getattr(saving_lib, "get_attr_skipset", None)  # not Keras' public interface
    if names is not None and not hasattr(names, "cache_info"):
        saving_lib.get_attr_skipset = functools.cache(names)
    model.save(path)
