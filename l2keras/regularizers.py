"""HalfL2: the L2 penalty in the textbook convention, wherever Keras takes a regularizer."""

from dataclasses import dataclass
from typing import Any

import keras

from l2keras import _calls, _validation, penalties

_PLACE = "Pass it to a layer, as kernel_regularizer=HalfL2(lam): it is no loss and no callback."
_VARIABLE = "Pass a float; for a coefficient that changes use WeightDecay with a schedule."


class _NoCallbackError(AttributeError, TypeError):
    """A wrong argument, found where an attribute is missing: `hasattr` still answers False."""


class _Type(type):
    """The type of HalfL2: `fit(callbacks=[HalfL2])` asks the class for what a callback has."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_") or not hasattr(keras.callbacks.Callback, name):
            message = f"type object {cls.__name__!r} has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=cls)
        raise _NoCallbackError(_no_callback(f"the class {cls.__name__}", "1e-4"))


def _no_callback(received: str, lam: str) -> str:
    remedy = f"{_PLACE} The callback is WeightDecay(lam={lam})."
    return _validation.error("`callbacks` must hold Keras callbacks.", received, remedy)


@keras.saving.register_keras_serializable(package="l2keras")
class HalfL2(keras.regularizers.Regularizer, metaclass=_Type):
    """Penalizes the squared norm of a weight tensor, textbook convention.

    Convention: `lam` is the coefficient of `W` in the gradient,

        penalty(W) = (lam / 2) * sum(W ** 2)        grad penalty(W) = lam * W

    so `HalfL2(lam)` equals `keras.regularizers.L2(lam / 2)`, and
    `torch.optim.SGD(weight_decay=lam)`. Source: Goodfellow, Bengio and Courville,
    Deep Learning, section 7.1.1.

    float16 and bfloat16 weights are summed in float32; float64 stays float64.

    Args:
        lam: Finite, non-negative Python float, in units of loss per squared weight.

    Raises:
        TypeError: `lam` is missing or not a real scalar, is a variable, or `l2=` was pasted.
        ValueError: `lam` is nan, infinite or negative.

    Example:

    >>> kernel = keras.ops.convert_to_tensor([[3.0], [4.0]])  # sum of squares: 25
    >>> round(float(HalfL2(lam=0.1)(kernel)), 6)
    1.25
    >>> layer = keras.layers.Dense(10, kernel_regularizer=HalfL2(1e-4))
    """

    @_calls.explained("HalfL2", {"l1": "For an L1 penalty use keras.regularizers.L1."})
    def __init__(self, lam: float) -> None:
        _validation.check_constant(lam, "lam", _VARIABLE)
        self.lam = _validation.check_lam(lam, remedy="For no penalty pass kernel_regularizer=None.")

    @_calls.explained("HalfL2(lam)", remedy=_PLACE)
    def __call__(self, x: Any) -> Any:
        """Returns the penalty of `x` (any shape, float dtype) as a scalar tensor."""
        return penalties.penalty(x, self.lam)

    def __getattr__(self, name: str) -> Any:
        """Raises: in `fit(callbacks=[HalfL2(lam)])` it is asked for what a callback has."""
        if name.startswith("_") or not hasattr(keras.callbacks.Callback, name):
            raise AttributeError(f"'HalfL2' object has no attribute {name!r}", name=name, obj=self)
        raise _NoCallbackError(_no_callback(repr(self), repr(self.lam)))

    def get_config(self) -> dict[str, float]:
        """Returns `{"lam": lam}`, a plain Python float."""
        return {"lam": self.lam}

    def __repr__(self) -> str:
        return f"HalfL2(lam={self.lam!r})"


@dataclass(frozen=True)
class Terms:
    """What a regularizer adds to the loss: (lam / 2) * sum(W ** 2) + l1 * sum(abs(W)).

    `lam` is None where it adds something else; `text` is None without a regularizer.
    """

    text: str | None
    lam: float | None
    l1: float = 0.0


def terms_of(regularizer: Any) -> Terms:
    """Reads a regularizer: HalfL2 and those of Keras exactly, of others only the name."""
    if regularizer is None:
        return Terms(None, 0.0)
    text = _as_written(regularizer)
    if _computes_as(regularizer, HalfL2):
        return Terms(text, regularizer.lam)
    if _computes_as(regularizer, keras.regularizers.L2):
        return Terms(text, 2 * regularizer.l2)
    if _computes_as(regularizer, keras.regularizers.L1L2):
        return Terms(text, 2 * regularizer.l2, regularizer.l1)
    if _computes_as(regularizer, keras.regularizers.L1):
        return Terms(text, 0.0, _seven_digits(regularizer.l1))
    return Terms(text, None)


def _computes_as(regularizer: Any, known: Any) -> bool:
    """True for the class itself and for subclasses that compute the same penalty."""
    return isinstance(regularizer, known) and type(regularizer).__call__ is known.__call__


def _seven_digits(value: Any) -> float:
    return float(f"{float(value):.7g}")  # L1 of Keras keeps its coefficient in float32


def _as_written(regularizer: Any) -> str:
    """`L2(l2=0.01)`; only the name where there is no config."""
    if not isinstance(regularizer, keras.regularizers.Regularizer):
        return str(getattr(regularizer, "__name__", type(regularizer).__name__))
    try:
        config = regularizer.get_config()
    except NotImplementedError:  # of keras.regularizers.Regularizer, where a subclass has none
        config = {}
    shown = {
        key: _seven_digits(value) if isinstance(value, float) else value
        for key, value in config.items()
        if isinstance(value, (str, int, float))
    }
    arguments = ", ".join(f"{key}={value!r}" for key, value in shown.items())
    return f"{type(regularizer).__name__}({arguments})"
