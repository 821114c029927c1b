"""Each method of regularization by name: what it does with lambda, and the lambda it means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from experiments.schema import ConfigError


@dataclass(frozen=True)
class Method:
    """What a training run needs to regularize with one lambda.

    Attributes:
        effective_lam: lambda in the half convention: the coefficient of W in the gradient.
        regularizer: For every kernel and embedding, or None.
        callbacks: For `fit`.
        optimizer_weight_decay: For the optimizer's own `weight_decay`, or None.
    """

    effective_lam: float
    regularizer: Any = None
    callbacks: tuple[Any, ...] = ()
    optimizer_weight_decay: float | None = None


def _none(lam: float, peak: float) -> Method:
    return Method(effective_lam=0.0)


def _builtin_l2(lam: float, peak: float) -> Method:
    import keras

    return Method(2 * lam, regularizer=keras.regularizers.L2(lam))


def _half_l2(lam: float, peak: float) -> Method:
    import l2keras

    return Method(lam, regularizer=l2keras.HalfL2(lam))


def _decoupled(lam: float, peak: float) -> Method:
    import l2keras

    return Method(lam, callbacks=(l2keras.WeightDecay(lam),))


def _coupled(lam: float, peak: float) -> Method:
    import l2keras

    return Method(lam, callbacks=(l2keras.WeightDecay(lam, coupling="coupled"),))


def _independent(lam: float, peak: float) -> Method:
    import l2keras

    decay = l2keras.WeightDecay(lam, coupling="independent", peak_learning_rate=peak)
    return Method(lam / peak, callbacks=(decay,))


def _optimizer_weight_decay(lam: float, peak: float) -> Method:
    return Method(lam, optimizer_weight_decay=lam)


METHODS: dict[str, Callable[[float, float], Method]] = {
    "none": _none,
    "builtin_l2": _builtin_l2,
    "half_l2": _half_l2,
    "decoupled": _decoupled,
    "coupled": _coupled,
    "independent": _independent,
    "optimizer_weight_decay": _optimizer_weight_decay,
}


def check_method(name: str) -> None:
    """Raises ConfigError for a name that is not in `METHODS`."""
    if name not in METHODS:
        raise ConfigError(
            f"`regularization.name` must be one of {sorted(METHODS)}. Received: {name!r}."
        )


def build_method(name: str, lam: float, peak_learning_rate: float) -> Method:
    """The method `name` at `lam`, as a user would paste it.

    Args:
        name: A key of `METHODS`.
        lam: The coefficient as written: `builtin_l2` hands it to `keras.regularizers.L2`.
        peak_learning_rate: The optimizer's, which "independent" is relative to.
    """
    return METHODS[name](lam, peak_learning_rate)
