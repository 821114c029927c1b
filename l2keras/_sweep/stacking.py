"""What can be stacked, and where stacking gains nothing."""

from __future__ import annotations

from typing import Any

import keras

from l2keras import _validation
from l2keras._keras.variables import sublayers
from l2keras._sweep import memory


def check_model(model: Any) -> None:
    """Raises ValueError, by name, for what the members of a group cannot share a step with."""
    for variable in model.trainable_variables:
        if variable.constraint is not None:
            raise ValueError(
                _refused(
                    f"the constraint {type(variable.constraint).__name__} of {variable.path}",
                    "Leave the constraint out",
                )
            )
    own_step = type(model).train_step is not keras.Model.train_step
    if own_step and type(model).__module__.split(".")[0] != "keras":
        raise ValueError(_refused(f"the train_step of {type(model).__name__}", "Use a plain model"))
    for layer in sublayers(model):
        if getattr(layer, "synchronized", False):
            raise ValueError(_refused(f"{layer.name} (synchronized)", "Leave synchronized out"))
    if "float16" in str(model.dtype_policy.compute_dtype) and "b" not in str(
        model.dtype_policy.compute_dtype
    ):
        raise ValueError(_refused("float16, which needs loss scaling", "Use bfloat16 or float32"))


def _refused(what: str, remedy: str) -> str:
    return _validation.error(
        "`sweep` cannot vectorize everything.", what, f"{remedy}, or train the members one by one."
    )


def most_at_once(model: Any) -> tuple[int, str]:
    """The largest group that pays on this backend and device, and why where that is 1."""
    if memory.on_gpu():
        return 1_000, ""
    if keras.backend.backend() == "jax" and any(_is_convolution(v) for v in sublayers(model)):
        return 1, ", as JAX's stacked convolutions are slower than plain ones on a CPU"
    return memory.MOST, ""


def _is_convolution(layer: Any) -> bool:
    return "Conv" in type(layer).__name__
