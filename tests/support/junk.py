"""Values that no argument expects, and calls of everything public that takes one."""

from __future__ import annotations

import collections
import datetime
import functools
import inspect
import math
import types
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import keras
import numpy as np
from matplotlib.figure import Figure

import l2keras
from l2keras._sweep import stacking
from l2keras._sweep.members import Member


class Accepted(Exception):
    """Raised in the place of training: the arguments were taken."""


class Hostile:
    """Whatever Python asks of it raises."""

    def _raise(self, *args: Any) -> NoReturn:
        raise RuntimeError("hostile")

    __repr__ = __str__ = __bool__ = __len__ = __iter__ = __float__ = __int__ = __index__ = _raise
    __array__ = __eq__ = __ne__ = __lt__ = __gt__ = __getitem__ = __contains__ = __fspath__ = _raise
    __hash__ = __complex__ = __add__ = __mul__ = _raise


class Elusive:
    """Every attribute that it has not raises something else than AttributeError."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(f"elusive: {name}")


class Lines:
    """A repr of many lines, much too long."""

    def __repr__(self) -> str:
        return "line\n" * 10_000


class Unsure:
    """Equal to anything as an array, which is neither true nor false."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> Any:
        return np.array([True, False])


def _raise(*args: Any, **kwargs: Any) -> NoReturn:
    raise ZeroDivisionError("of the function")


def _generator() -> Iterator[float]:
    yield 0.1
    raise ZeroDivisionError("of the generator")


def _object_array() -> Any:
    array = np.empty(2, dtype=object)
    array[:] = [object(), None]
    return array


# Made anew for each call: some are used up.
JUNK: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "minus inf": lambda: -math.inf,
    "-1": lambda: -1,
    "half": lambda: 0.5,
    "huge int": lambda: 10**5000,
    "large int": lambda: 2**70,
    "True": lambda: True,
    "numpy bool": lambda: np.bool_(True),
    "array of bools": lambda: np.array([True, False]),
    "array": lambda: np.linspace(0.0, 1.0, 10_000),
    "matrix": lambda: np.ones((3, 4), "float32"),
    "empty array": lambda: np.empty((0,)),
    "rank-0 array of nan": lambda: np.array(math.nan),
    "object array": _object_array,
    "array of strings": lambda: np.array(["a", "b"]),
    "datetime64": lambda: np.datetime64("2026-01-01"),
    "tensor of rank 2": lambda: keras.ops.ones((2, 2)),
    "symbolic tensor": lambda: keras.Input((3,)),
    "variable of rank 1": lambda: keras.Variable(np.ones(3)),
    "complex": lambda: 1j,
    "Decimal": lambda: Decimal("0.1"),
    "Fraction": lambda: Fraction(-1, 3),
    "empty string": lambda: "",
    "string": lambda: "abc",
    "string of lines": lambda: "a\nb" * 5000,
    "zero character": lambda: "a\0b.keras",
    "bytes": lambda: b"abc",
    "path": lambda: Path("/nowhere/x.weights.h5"),
    "long path": lambda: "x" * 5000 + ".keras",
    "empty list": list,
    "list": lambda: [1, "a", None],
    "long list": lambda: list(range(5_000)),
    "empty tuple": lambda: (),
    "empty dict": dict,
    "dict": lambda: {1: 2, "a": None},
    "set": lambda: {1, 2},
    "generator": _generator,
    "range": lambda: range(3),
    "object": object,
    "class": lambda: dict,
    "exception": lambda: ValueError("x"),
    "module": lambda: math,
    "namespace": lambda: types.SimpleNamespace(shape=None, dtype=None, built=True),
    "function that raises": lambda: _raise,
    "lambda": lambda: lambda: None,
    "datetime": lambda: datetime.datetime(2026, 1, 1),
    "Layer": lambda: keras.layers.Dense(1),
    "unbuilt model": lambda: keras.Sequential([keras.layers.Dense(1)]),
    "callback": lambda: keras.callbacks.History(),
    "optimizer": lambda: keras.optimizers.Lamb(),
    "HalfL2": lambda: l2keras.HalfL2(0.1),
    "WeightDecay": lambda: l2keras.WeightDecay(0.1),
    "hostile": Hostile,
    "hostile in a list": lambda: [Hostile()],
    "hostile class": lambda: Hostile,
    "elusive": Elusive,
    "repr of many lines": Lines,
    "unsure": Unsure,
    "user list": lambda: collections.UserList([1]),
}


def make_model() -> Any:
    """A small model with an optimizer, called mlp, whose layer is called head."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head")], name="mlp")
    model.compile(keras.optimizers.SGD(0.5), "mse")
    return model


def _in_step(**arguments: Any) -> None:
    with l2keras.WeightDecay(0.1).in_step(**arguments):
        pass


def _result() -> Any:
    """Of one member, which `best` and `plot` can take; its weights are none."""
    member = Member(lam=0.1, seed=0, learning_rate=0.1)
    history = {"loss": np.array([[1.0]])}
    return l2keras.SweepResult(
        (member,), history, (1,), ("finished",), ([],), (), mock.Mock(), (([], []),)
    )


_RATES = {"steps_per_epoch": 10, "learning_rate": 0.1}
_CONVERT = {"value": 0.1, "source": "torch.SGD", "target": "tfa.SGDW", "learning_rate": 0.1}
_X, _Y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
_SWEEP = {"build_model": make_model, "lam": 0.1, "x": _X, "y": _Y, "loss": "mse"}

# For everything public that takes arguments: how to call it, and right ones where it needs them.
CALLS: dict[str, Callable[[], tuple[Callable[..., Any], dict[str, Any]]]] = {
    "HalfL2": lambda: (l2keras.HalfL2, {"lam": 0.1}),
    "WeightDecay": lambda: (l2keras.WeightDecay, {"lam": 0.1}),
    "WeightDecay.in_step": lambda: (_in_step, {"model": make_model()}),
    "model_penalty": lambda: (l2keras.model_penalty, {"model": make_model()}),
    "attach": lambda: (l2keras.attach, {"model": make_model(), "regularizer": "l2"}),
    "detach": lambda: (l2keras.detach, {}),
    "audit": lambda: (l2keras.audit, {"model": make_model()}),
    "AuditReport.row": lambda: (l2keras.audit(make_model()).row, {}),
    "AuditReport.to_text": lambda: (l2keras.audit(make_model()).to_text, {}),
    "convert": lambda: (l2keras.convert, _CONVERT),
    "half_life": lambda: (l2keras.half_life, {"lam": 0.1, **_RATES}),
    "timescale": lambda: (l2keras.timescale, {"lam": 0.1, **_RATES}),
    "lam_from_half_life": lambda: (l2keras.lam_from_half_life, {"epochs": 1, **_RATES}),
    "lam_from_timescale": lambda: (l2keras.lam_from_timescale, {"epochs": 1, **_RATES}),
    "sweep": lambda: (l2keras.sweep, _SWEEP),
    "SweepResult.best": lambda: (_result().best, {}),
    "SweepResult.member": lambda: (_result().member, {}),
    "SweepResult.plot": lambda: (_result().plot, {"ax": Figure().subplots()}),
    "masks.select": lambda: (l2keras.masks.select, {"model": make_model()}),
}


def parameters(name: str) -> list[str]:
    """The parameters of a public function or method, from its signature."""
    function: Any = functools.reduce(getattr, name.split("."), l2keras)
    return [key for key in inspect.signature(function).parameters if key != "self"]


def complaint(call: Callable[..., Any], **arguments: Any) -> str | None:
    """What is wrong with the answer; None where the call is taken, or refused in one line."""
    with mock.patch.object(stacking, "group_size", side_effect=Accepted):
        try:
            call(**arguments)
        except Accepted:
            return None
        except (TypeError, ValueError, KeyError) as error:
            message = str(error.args[0]) if isinstance(error, KeyError) else str(error)
            if " Received: " in message and "\n" not in message and len(message) < 1000:
                return None
            return f"{type(error).__name__}: {message}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return None
