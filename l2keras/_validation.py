"""The only place that words errors about arguments: what was expected, what came, the remedy."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

LIKE = 0.4  # how alike two names must be for one to be a slip of the other


def error(expected: str, received: str, remedy: str) -> str:
    """One line, in the host library's idiom."""
    return f"{expected} Received: {received}. {remedy}"


def check_lam(value: Any, name: str = "lam", remedy: str = "For no penalty pass none.") -> float:
    """Returns `value` as a Python float, or says why it cannot be a coefficient.

    Raises:
        TypeError: not a real scalar (bool, string, complex, a tensor of rank > 0).
        ValueError: nan, infinite or negative.
    """
    expected = f"`{name}` must be a finite, non-negative float."
    scalar = _as_scalar(value)
    if isinstance(scalar, bool) or not isinstance(scalar, Real):
        raise TypeError(error(expected, f"{name}={value!r} of type {type(value).__name__}", remedy))
    try:
        number = float(scalar)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < 0:
        raise ValueError(error(expected, f"{name}={value!r}", remedy))
    return number


def check_positive(value: Any, name: str, remedy: str) -> float:
    """Returns `value` as a finite Python float above zero; raises as `check_lam` does."""
    number = check_lam(value, name, remedy)
    if number == 0.0:
        raise ValueError(error(f"`{name}` must be above zero.", f"{name}={value!r}", remedy))
    return number


def check_count(value: Any, name: str, remedy: str = "Pass how many there are.") -> int:
    """Returns `value` as a positive Python int; whole floats count, as in 1e4."""
    number = check_positive(value, name, remedy)
    if not number.is_integer():
        raise ValueError(error(f"`{name}` must be a whole number.", f"{name}={value!r}", remedy))
    return int(number)


def _as_scalar(value: Any) -> Any:
    """Unwraps arrays and tensors of rank 0; everything else comes back as it is."""
    if isinstance(value, (str, bytes, Real)) or value is None:
        return value
    if getattr(value, "shape", None) == () and hasattr(value, "__array__"):
        import keras  # not at the top: `python -m l2keras` does without

        if "bfloat16" in str(value.dtype):  # TensorFlow's scalar of it has no array form
            value = keras.ops.cast(value, "float32")
        return keras.ops.convert_to_numpy(value).item()
    return value


def check_choice(value: Any, name: str, choices: Sequence[str]) -> str:
    """Returns `value` if it is one of `choices`, else raises with the nearest of them."""
    if isinstance(value, str) and value in choices:
        return value
    near = nearest(str(value), choices, count=1, cutoff=LIKE)
    remedy = f'Did you mean "{near[0]}"?' if near else "Pass one of these."
    raise ValueError(
        error(f"`{name}` must be one of {list(choices)}.", f"{name}={value!r}", remedy)
    )


def nearest(pattern: str, paths: Iterable[str], count: int = 3, cutoff: float = 0.0) -> list[str]:
    """The `count` paths most like `pattern`, most alike first; at 1 they are equal, at 0 unlike."""
    return difflib.get_close_matches(pattern.strip("*"), list(paths), n=count, cutoff=cutoff)
