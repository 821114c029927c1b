"""What can be stacked, how many members at once, and in how many stacks side by side."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras

from l2keras import _validation
from l2keras._keras.variables import sublayers
from l2keras._sweep import memory
from l2keras.regularizers import terms_of

# Of layers that XLA compiles well on a CPU; it is slow for convolutions, and never was tried here
# for recurrent ones.
_DENSE = ("InputLayer", "Dense", "Flatten", "Activation", "ReLU", "Rescaling", "LayerNormalization",
          "Sequential", "Functional")  # fmt: skip
# Stacked weights times steps: 32 MLPs of 26,000 weights save 2 ms a step; compiling takes 0.5 s.
BYTES_THAT_PAY = 7e8

LEAST = 2  # members in a stack, where there are as many

LOW_PRECISION = ("float16", "bfloat16")


def check_model(model: Any) -> None:
    """Raises ValueError, by name, for what the members of a group cannot share a step with."""
    own_step = type(model).train_step is not keras.Model.train_step
    if own_step and type(model).__module__.split(".")[0] != "keras":
        raise _refused(f"the train_step of {type(model).__name__}", "Use a model without its own")
    for layer in sublayers(model):
        if layer.dtype_policy.compute_dtype == "float16":
            raise _refused(f"{layer.name} in float16, whose loss is scaled", "Use mixed_bfloat16")
        if getattr(layer, "synchronized", False):
            raise _refused(f"{layer.name} with synchronized=True", "Leave that out")
    for variable in model.trainable_variables:
        if variable.constraint is not None:
            kind = type(variable.constraint).__name__
            raise _refused(f"the constraint {kind} of {variable.path}", "Leave it out")
        if keras.backend.standardize_dtype(variable.dtype) in LOW_PRECISION:
            raise _refused(
                f"{variable.path} of dtype {variable.dtype}, which decay rounds away",
                "Use float32 variables, as mixed_bfloat16 has them",
            )


def check_decayed(variables: Sequence[Any]) -> None:
    """Raises ValueError, by name, for a regularizer that may decay one of them, too."""
    for variable in variables:
        terms = terms_of(variable.regularizer)
        if terms.lam != 0:
            raise ValueError(
                _validation.error(
                    "`sweep` needs weights without an L2 penalty of their own: decay would be "
                    "applied twice.",
                    f"{terms.text} of {variable.path}",
                    "Leave it out of build_model, or pass exclude=.",
                )
            )


def _refused(what: str, remedy: str) -> ValueError:
    expected = "`sweep` needs a model whose members can share one step."
    return ValueError(
        _validation.error(expected, what, f"{remedy}, or train the members one by one.")
    )


def group_size(
    model: Any, optimizer: Any, num_members: int, batch_size: int, budget: int | None
) -> tuple[int, str]:
    """Members in a group, and a note that says so and why."""
    most, why = most_at_once(model)
    needed = memory.bytes_per_member(model, optimizer, batch_size)
    budget = memory.default_budget() if budget is None else budget
    size = memory.group_size(num_members, needed, budget, most)
    if why and size == memory.group_size(num_members, 0, most, most):  # the budget had no say
        return size, f"{num_members} members, {size} at once{why}"
    told = f"of {_megabytes(needed)} MB each in a budget of {_megabytes(budget)} MB"
    return size, f"{num_members} members, {size} at once, {told}"


def _megabytes(number: int) -> str:
    megabytes = number / 2**20
    return f"{megabytes:.0f}" if megabytes >= 10 else f"{megabytes:.2g}"


def clusters(model: Any, size: int, steps: Mapping[int, int], epochs: int) -> list[int]:
    """The batch sizes, of so many steps in an epoch, that are better compiled as a whole."""
    return [width for width, of in steps.items() if pays_as_cluster(model, size, epochs * of)]


def pays_as_cluster(model: Any, size: int, updates: int) -> bool:
    """Whether a step that XLA compiles as a whole saves more time than compiling it takes.

    It does for stacked dense layers, whose matrix products TensorFlow's own operations do at half
    the speed and whose updates they make pass by pass, on a CPU.
    """
    if keras.backend.backend() != "tensorflow" or size == 1 or memory.on_gpu():
        return False
    if any(type(layer).__name__ not in _DENSE for layer in sublayers(model)):
        return False
    stacked = sum(math.prod(v.shape) * v.value.dtype.size for v in model.trainable_variables)
    return bool(size * stacked * updates >= BYTES_THAT_PAY)


def stack_size(model: Any, size: int, clusters: Collection[int]) -> int:
    """How many of a group of `size` members share a stack; each stack is trained in a thread.

    XLA on a CPU computes most of what is stacked on one core; TensorFlow's operations use all.
    Where some steps of a group are compiled, its others run as operations from all threads.
    """
    on_jax = keras.backend.backend() == "jax"
    if memory.on_gpu() or not (on_jax or clusters):
        return size
    least = 1 if on_jax and _convolutions(model) else LEAST
    return math.ceil(size / max(1, min(memory.cores(), size // least)))


def steps_apart(model: Any) -> bool:
    """Whether each step is better a call of its own than one turn of a loop that is compiled.

    On a CPU XLA takes more than twice as long for convolutions that stand in a loop.
    """
    on_cpu = keras.backend.backend() == "jax" and not memory.on_gpu()
    return on_cpu and bool(_convolutions(model))


def _convolutions(model: Any) -> list[Any]:
    return [layer for layer in sublayers(model) if "Conv" in type(layer).__name__]


def most_at_once(model: Any) -> tuple[int, str]:
    """The largest group that pays on this backend and device, and why where it is a small one."""
    backend = keras.backend.backend()
    convolutions = _convolutions(model)
    if backend == "tensorflow" and any(getattr(c, "groups", 1) > 1 for c in convolutions):
        return 1, ", as Keras runs TensorFlow's grouped convolutions in an XLA cluster of their own"
    if memory.on_gpu():
        return memory.MOST_ON_GPU, ""
    if backend == "jax" and convolutions:
        return memory.cores(), ", each on a core, as JAX's stacked convolutions are slow on a CPU"
    return memory.MOST, ""
