"""The file of a Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from l2keras_experiments.config.schema import ConfigError


def check(model: Any, target: str) -> None:
    """Raises ConfigError for a model that has no config, which its file needs."""
    try:
        model.get_config()
    except NotImplementedError as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise ConfigError(
            "`tracking.log_model` needs a model that Keras can save. "
            f"Received: {target} ({reason}). Write get_config, or set tracking.log_model=false."
        ) from None


Spec = tuple[str | None, str, list[int]]  # name, type and shape, with -1 for a free size
_FLOAT = "float32"  # what NumPy has in the place of bfloat16


def input_specs(model: Any, x: Any) -> list[Spec] | None:
    """The inputs that a model takes as one array, or as a dict of arrays.

    Args:
        model: A built Keras model.
        x: Examples that it was trained on, in the structure that it takes.

    Returns:
        None where the structure has no names: a list that is given to a model without Inputs.
    """
    if not keras.tree.is_nested(x):
        return [_spec(None, x)]
    names = (
        list(x) if isinstance(x, dict) else [i.name for i in getattr(model, "inputs", None) or []]
    )
    arrays = list(x.values()) if isinstance(x, dict) else list(x)
    if len(names) != len(arrays) or any(map(keras.tree.is_nested, arrays)):
        return None
    return [_spec(name, array) for name, array in zip(names, arrays, strict=True)]


def output_specs(model: Any) -> list[Spec] | None:
    """The outputs of a model; None where only a call could tell them."""
    outputs = getattr(model, "outputs", None)
    if not outputs:
        return None
    names: Sequence[str | None] = [None] if len(outputs) == 1 else [o.name for o in outputs]
    return [_spec(name, output) for name, output in zip(names, outputs, strict=True)]


def _spec(name: str | None, tensor: Any) -> Spec:
    kind = keras.backend.standardize_dtype(tensor.dtype)
    shape = [-1, *(-1 if size is None else int(size) for size in tensor.shape[1:])]
    return name, kind if hasattr(np, kind) else _FLOAT, shape


def own_modules(model: Any) -> list[str]:
    """The modules of the classes of a model and its layers that are neither Keras' nor ours."""
    classes = [type(model), *map(type, model._flatten_layers())]
    modules = {one.__module__ for one in classes}
    return sorted(m for m in modules if m.partition(".")[0] not in ("keras", "l2keras", "__main__"))
