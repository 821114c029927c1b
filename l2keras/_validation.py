"""The only place that words errors about arguments: what was expected, what came, the remedy."""

from __future__ import annotations

import difflib
import math
import operator
import re
import reprlib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any

LIKE = 0.4  # how alike two names must be for one to be a slip of the other
LIMIT = 100  # characters of a value in a message

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = LIMIT


def error(expected: str, received: str, remedy: str) -> str:
    """One line, in the host library's idiom."""
    return " ".join(f"{expected} Received: {received}. {remedy}".split())


def shown(value: Any) -> str:
    """The repr of any value, short and on one line; arrays by dtype and shape, never raising."""
    try:
        text = _large_array(value) or _REPR.repr(value)
    except Exception:  # whatever the code of the value raises
        text = f"<{type(value).__name__}>"
    text = " ".join(text.split())
    half = LIMIT // 2
    return text if len(text) <= LIMIT + 20 else f"{text[:half]}...{text[-half:]}"


def brief(problem: BaseException) -> str:
    """`ValueError: its message`, short and on one line; never raises."""
    try:
        text = " ".join(_COLOR.sub("", str(problem)).split())
    except Exception:
        text = ""
    kind = type(problem).__name__
    return f"{kind}: {text[: 5 * LIMIT].rstrip('. ')}" if text else kind


def check_lam(value: Any, name: str = "lam", remedy: str = "For no penalty pass none.") -> float:
    """Returns `value` as a Python float, or says why it cannot be a coefficient.

    Raises:
        TypeError: not a real scalar (bool, string, complex, a tensor of rank > 0).
        ValueError: nan, infinite or negative.
    """
    expected = f"`{name}` must be a finite, non-negative float."
    scalar = _as_scalar(value)
    number = _as_float(scalar)
    if isinstance(scalar, bool) or number is None:
        received = f"{name}={shown(value)} of type {type(value).__name__}"
        raise TypeError(error(expected, received, remedy))
    if not math.isfinite(number) or number < 0:
        raise ValueError(error(expected, f"{name}={shown(value)}", remedy))
    return number


def check_constant(value: Any, name: str, remedy: str) -> None:
    """Raises TypeError for a variable, of which only the present value would count."""
    try:
        is_variable = hasattr(value, "assign") or bool(getattr(value, "requires_grad", False))
    except Exception:
        is_variable = False
    if is_variable and not isinstance(value, type):
        received = f"{name}={shown(value)}, a variable: later values of it would not count"
        expected = f"`{name}` must be a finite, non-negative float."
        raise TypeError(error(expected, received, remedy))


def check_positive(value: Any, name: str, remedy: str) -> float:
    """Returns `value` as a finite Python float above zero; raises as `check_lam` does."""
    number = check_lam(value, name, remedy)
    if number == 0.0:
        raise ValueError(error(f"`{name}` must be above zero.", f"{name}={shown(value)}", remedy))
    return number


def check_count(value: Any, name: str, remedy: str = "Pass how many there are.") -> int:
    """Returns `value` as a positive Python int; whole floats count, as in 1e4."""
    number = check_positive(value, name, remedy)
    if not number.is_integer():
        expected = f"`{name}` must be a whole number."
        raise ValueError(error(expected, f"{name}={shown(value)}", remedy))
    return int(number)


def as_int(value: Any) -> int | None:
    """An int of any kind as a Python int; None for anything else, a bool included."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except Exception:  # TypeError for what is no int; whatever the code of the value raises
        return None


def check_one_of(value: Any, name: str, allowed: Sequence[bool | None]) -> None:
    """Raises TypeError unless `value` is one of True, False and None, as `allowed` lists them."""
    if not any(value is one for one in allowed):
        expected = f"`{name}` must be {' or '.join(map(str, allowed))}."
        raise TypeError(error(expected, f"{name}={shown(value)}", "Leave it out."))


def _as_scalar(value: Any) -> Any:
    """Unwraps arrays and tensors of rank 0; everything else comes back as it is."""
    if isinstance(value, (str, bytes, Real)) or value is None:
        return value
    try:
        if getattr(value, "shape", None) == () and hasattr(value, "__array__"):
            import keras  # not at the top: `python -m l2keras` does without

            if "bfloat16" in str(value.dtype):  # TensorFlow's scalar of it has no array form
                value = keras.ops.cast(value, "float32")
            return keras.ops.convert_to_numpy(value).item()
    except Exception:  # a tensor without a value yet, in a trace; or whatever its code raises
        return value
    return value


def _as_float(scalar: Any) -> float | None:
    """A real number as a float, infinite where it is too large; None for anything else."""
    if not isinstance(scalar, Real):
        return None
    try:
        return float(scalar)
    except OverflowError:
        return math.inf
    except Exception:
        return None


def _large_array(value: Any) -> str | None:
    """`<float32 of shape (3, 4)>`; None for anything but an array or tensor of many numbers."""
    try:
        shape = tuple(value.shape)
        return f"<{value.dtype} of shape {shape}>" if math.prod(shape) > 8 else None
    except Exception:  # no array, or a symbolic one
        return None


def check_choice(value: Any, name: str, choices: Sequence[str]) -> str:
    """Returns `value` if it is one of `choices`, else raises with the nearest of them."""
    if isinstance(value, str) and value in choices:
        return value
    near = nearest(value, choices, count=1, cutoff=LIKE) if isinstance(value, str) else []
    remedy = f'Did you mean "{near[0]}"?' if near else "Pass one of these."
    expected = f"`{name}` must be one of {list(choices)}."
    raise ValueError(error(expected, f"{name}={shown(value)}", remedy))


def nearest(pattern: str, paths: Iterable[str], count: int = 3, cutoff: float = 0.0) -> list[str]:
    """The `count` paths most like `pattern`, most alike first; at 1 they are equal, at 0 unlike."""
    return difflib.get_close_matches(pattern.strip("*"), list(paths), n=count, cutoff=cutoff)


def pattern_remedy(pattern: str, paths: Sequence[str]) -> str:
    """What to write for a glob that matches no path: one around the same text, or the nearest."""
    text = pattern.replace(".*", "*").strip("*/^$")
    if text:
        for glob in (f"*/{text}/*", f"{text}/*", f"*/{text}", f"*{text}*"):
            matched = [path for path in paths if fnmatchcase(path, glob)]
            if matched:
                return f'Write "{glob}": it matches {listed(matched)}.'
    return f"The nearest paths are: {', '.join(nearest(pattern, paths))}."


def listed(names: Sequence[str], count: int = 5) -> str:
    """The first `count` names, and how many there are where there are more."""
    more = f", ... ({len(names)} in all)" if len(names) > count else ""
    return ", ".join(names[:count]) + more
