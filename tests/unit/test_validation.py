"""What counts as a coefficient, and what the errors say."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import _validation
from tests.support.refused import REFUSED_TYPES, REFUSED_VALUES

ACCEPTED = {
    "zero": (0, 0.0),
    "int": (2, 2.0),
    "float": (1e-4, 1e-4),
    "fraction": (Fraction(1, 4), 0.25),
    "numpy float16": (np.float16(0.5), 0.5),
    "numpy float32": (np.float32(0.1), 0.10000000149011612),
    "numpy int": (np.int64(3), 3.0),
    "rank-0 array": (np.array(0.25), 0.25),
    "rank-0 tensor": (keras.ops.convert_to_tensor(0.25), 0.25),
    "rank-0 bfloat16 tensor": (keras.ops.cast(0.25, "bfloat16"), 0.25),
    "rank-0 variable": (keras.Variable(0.5), 0.5),
}


@pytest.mark.parametrize(("value", "expected"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_real_scalars_become_python_floats(value: Any, expected: float) -> None:
    """Numbers, numpy scalars and tensors of rank 0 come back as the same Python float."""
    result = _validation.check_lam(value)
    assert type(result) is float
    assert result == expected


@pytest.mark.parametrize("value", REFUSED_TYPES.values(), ids=REFUSED_TYPES.keys())
def test_what_is_not_a_real_scalar_is_a_type_error(value: Any) -> None:
    """The error says what was expected, what came with its type, and the remedy."""
    with pytest.raises(TypeError, match="must be a finite, non-negative float") as caught:
        _validation.check_lam(value, remedy="Do this instead.")
    message = str(caught.value)
    assert f"Received: lam={_validation.shown(value)} of type {type(value).__name__}." in message
    assert message.endswith("Do this instead.")


@pytest.mark.parametrize("value", REFUSED_VALUES.values(), ids=REFUSED_VALUES.keys())
def test_numbers_out_of_range_are_a_value_error(value: Any) -> None:
    """nan, infinities and negative numbers are refused with the number that came."""
    with pytest.raises(ValueError, match="must be a finite, non-negative float") as caught:
        _validation.check_lam(value, name="c", remedy="Do this instead.")
    assert f"Received: c={_validation.shown(value)}. Do this instead." in str(caught.value)


def test_an_error_is_one_line_in_keras_idiom() -> None:
    """Expected, received and remedy stand in this order."""
    assert _validation.error("A.", "b=1", "C.") == "A. Received: b=1. C."


@pytest.mark.parametrize(
    ("value", "hint"),
    [("decopled", 'Did you mean "decoupled"?'), ("zzz", "Pass one of these."), (3, "Pass one")],
)
def test_a_wrong_choice_names_the_nearest(value: Any, hint: str) -> None:
    """A mistyped choice is answered with the one most like it, if any is."""
    with pytest.raises(ValueError, match="must be one of") as caught:
        _validation.check_choice(value, "coupling", ("decoupled", "coupled"))
    assert f"coupling={value!r}" in str(caught.value)
    assert hint in str(caught.value)


def test_a_right_choice_comes_back() -> None:
    """check_choice returns its argument."""
    assert _validation.check_choice("coupled", "coupling", ("decoupled", "coupled")) == "coupled"


def test_the_nearest_paths_come_most_alike_first() -> None:
    """The stars of a glob do not count in the comparison."""
    paths = ["encoder/kernel", "head/bias", "head/kernel"]
    assert _validation.nearest("*heed/kernel", paths, count=2) == ["head/kernel", "encoder/kernel"]
    assert _validation.nearest("zzz", paths, cutoff=0.4) == []


class Hostile:
    """It cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("hostile")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (np.zeros((100, 3), "float32"), "<float32 of shape (100, 3)>"),
        ("a\nb", r"'a\nb'"),
        (np.array([[1], [2]]), "array([[1], [2]])"),
        ([1] * 1000, "[1, 1, 1, 1, 1, 1, ...]"),
    ],
)
def test_a_value_is_shown_short_and_on_one_line(value: Any, text: str) -> None:
    """Arrays by dtype and shape, lists by their first items."""
    assert _validation.shown(value) == text


def test_a_long_repr_is_cut() -> None:
    """Neither pages nor what raises get into a message."""
    assert len(_validation.shown("x" * 10_000)) < 130
    assert len(_validation.shown(10**5000)) < 130  # too long for the repr of Python
    assert _validation.shown(Hostile()).startswith("<Hostile")
    assert len(_validation.shown([["x" * 1000] * 1000] * 1000)) < 130


@pytest.mark.parametrize(
    ("pattern", "glob"),
    [
        ("head", "*/head/*"),
        ("mlp", "mlp/*"),
        ("bias", "*/bias"),
        ("/head", "*/head/*"),
        (".*bias$", "*/bias"),
        ("kern", "*kern*"),
    ],
)
def test_a_pattern_without_stars_is_answered_with_one_that_matches(pattern: str, glob: str) -> None:
    """A layer, a model, a role, a regular expression and a part of a word."""
    paths = ["mlp/head/kernel", "mlp/head/bias"]
    assert _validation.pattern_remedy(pattern, paths).startswith(f'Write "{glob}": it matches mlp/')


def test_a_slip_in_a_pattern_is_answered_with_the_nearest_paths() -> None:
    """Where nothing around the text matches."""
    remedy = _validation.pattern_remedy("*/haed/*", ["mlp/head/kernel"])
    assert remedy == "The nearest paths are: mlp/head/kernel."
