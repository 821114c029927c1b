"""Calls that do not have the signature of a function: the error says what to write."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import l2keras
from l2keras import _calls

L2KERAS: Any = l2keras  # the calls below are wrong: no type checker may see them


def build_model() -> None: ...


X = np.zeros((4, 3))
# What is called, and all that follows "Received: ".
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a name of other libraries": (
        lambda: L2KERAS.WeightDecay(weight_decay=0.01),
        "weight_decay=0.01. Write WeightDecay(lam=0.01).",
    ),
    "by position": (
        lambda: L2KERAS.WeightDecay(0.01, "coupled"),
        "'coupled' in addition. Write WeightDecay(lam=0.01, coupling='coupled').",
    ),
    "missing": (lambda: L2KERAS.WeightDecay(), "no `lam`. Write WeightDecay(lam=1e-4)."),
    "the optimizer's": (
        lambda: L2KERAS.WeightDecay(0.01, lr=0.1),
        "lr=0.1. Leave it out: the optimizer has the learning rate.",
    ),
    "the exclusions of Keras": (
        lambda: L2KERAS.WeightDecay(0.01, var_names=["bias"]),
        "var_names=['bias']. Write WeightDecay(lam=0.01, exclude=['bias']).",
    ),
    "another convention": (
        lambda: L2KERAS.WeightDecay(l2=0.01),
        "l2=0.01. keras.regularizers.L2(l2=0.01) has the gradient 2 * 0.01 * W: "
        "write WeightDecay(lam=0.02) for the same penalty.",
    ),
    "a slip": (
        lambda: L2KERAS.WeightDecay(0.01, couplin="coupled"),
        "couplin='coupled'. Write WeightDecay(lam=0.01, coupling='coupled').",
    ),
    "HalfL2 without lam": (lambda: L2KERAS.HalfL2(), "no `lam`. Write HalfL2(lam=1e-4)."),
    "HalfL2 of two": (
        lambda: L2KERAS.HalfL2(0.1, 0.2),
        "0.2 in addition. Write HalfL2(lam=0.1).",
    ),
    "HalfL2 twice": (
        lambda: L2KERAS.HalfL2(0.1, lam=0.2),
        "lam=0.2 in addition. Write HalfL2(lam=0.2).",
    ),
    "HalfL2 of another norm": (
        lambda: L2KERAS.HalfL2(l1=0.1),
        "l1=0.1. For an L1 penalty use keras.regularizers.L1.",
    ),
    "HalfL2 of nothing known": (
        lambda: L2KERAS.HalfL2(zzz=0.1),
        "zzz=0.1. Its arguments are lam.",
    ),
    "no arguments": (lambda: L2KERAS.PenaltySplit(0.1), "0.1 in addition. Write PenaltySplit()."),
    "a rate of sweep": (
        lambda: L2KERAS.sweep(build_model, [0.1], X, X, loss="mse", lr=0.5),
        "lr=0.5. Write sweep(build_model, [0.1], x, y, loss='mse', learning_rates=0.5).",
    ),
    "weights of examples": (
        lambda: L2KERAS.sweep(build_model, [0.1], X, X, loss="mse", sample_weight=X),
        f"sample_weight=<float64 of shape {X.shape}>. "
        "Weigh the examples in the loss, as a function of y.",
    ),
    "nothing for sweep": (
        lambda: L2KERAS.sweep(),
        "no `build_model`, no `lam`, no `x`, no `y`, no `loss`. "
        'Write sweep(build_model, 1e-4, x, y, loss="mse").',
    ),
    "timescale": (
        lambda: L2KERAS.timescale(0.1, 100, 0.01),
        "100, 0.01 in addition. Write timescale(lam=0.1, steps_per_epoch=100, learning_rate=0.01).",
    ),
    "convert": (
        lambda: L2KERAS.convert(0.1, from_="torch.SGD", to="keras.L2"),
        "from_='torch.SGD', to='keras.L2'. "
        "Write convert(value=0.1, source='torch.SGD', target='keras.L2').",
    ),
    "a bare number": (
        lambda: L2KERAS.attach(None, lam=0.1),
        "lam=0.1. A bare number has no convention. Write attach(model, HalfL2(lam=1e-4)).",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_is_told_what_to_write(name: str) -> None:
    """One TypeError of one line, whose remedy holds the values that came."""
    call, rest = WRONG[name]
    with pytest.raises(TypeError, match=r"^`\w+` (has no argument|takes|needs) .*\.") as caught:
        call()
    assert str(caught.value).partition(" Received: ")[2] == rest
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("thing", "signature"),
    [
        (l2keras.HalfL2, "(lam: float) -> None"),
        (l2keras.HalfL2.__call__, "(self, x: Any) -> Any"),
        (l2keras.PenaltySplit, "() -> 'None'"),
    ],
)
def test_the_signature_stays_as_documented(thing: Any, signature: str) -> None:
    """`inspect.signature` shows no wrapper."""
    assert str(inspect.signature(thing)) == signature


def test_help_shows_the_signature_of_half_l2() -> None:
    """help(HalfL2) begins with lam and nothing else."""
    text = pydoc.plain(pydoc.render_doc(l2keras.HalfL2))
    assert "HalfL2(lam: float) -> None\n" in text


def test_a_type_error_from_inside_comes_through() -> None:
    """An error of a right call is the function's own."""

    @_calls.explained("double")
    def double(value: Any) -> Any:
        return value + 1

    with pytest.raises(TypeError, match="can only concatenate str"):
        double("a")
