"""Each method of regularization by name: what it does with lambda, and the lambda it means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from experiments.schema import ConfigError, RegularizationConfig


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


def _none(lam: float) -> Method:
    return Method(effective_lam=0.0)


def _builtin_l2(lam: float) -> Method:
    import keras

    return Method(2 * lam, regularizer=keras.regularizers.L2(lam))


def _half_l2(lam: float) -> Method:
    import l2keras

    return Method(lam, regularizer=l2keras.HalfL2(lam))


def _optimizer_weight_decay(lam: float) -> Method:
    return Method(lam, optimizer_weight_decay=lam)


COUPLINGS = ("decoupled", "coupled", "independent")  # of WeightDecay
_OTHERS: dict[str, Callable[[float], Method]] = {
    "none": _none,
    "builtin_l2": _builtin_l2,
    "half_l2": _half_l2,
    "optimizer_weight_decay": _optimizer_weight_decay,
}
METHODS = (*COUPLINGS, *_OTHERS)


def check_method(config: RegularizationConfig) -> None:
    """Raises ConfigError for a name that is not in `METHODS`, and what it cannot do."""
    if config.name not in METHODS:
        raise ConfigError(
            f"`regularization.name` must be one of {sorted(METHODS)}. Received: {config.name!r}."
        )
    if config.decay_all and config.name not in COUPLINGS:
        raise ConfigError(
            f"`regularization.decay_all` is for {', '.join(COUPLINGS)}. "
            f"Received: decay_all=true with regularization.name={config.name}. Choose one of them."
        )


def build_method(config: RegularizationConfig, peak_learning_rate: float) -> Method:
    """The method at its lambda, as a user would paste it.

    Args:
        config: Its `lam` is the coefficient as written: `builtin_l2` hands it to
            `keras.regularizers.L2`.
        peak_learning_rate: The optimizer's, which "independent" is relative to.
    """
    if config.name not in COUPLINGS:
        return _OTHERS[config.name](config.lam)
    import l2keras

    independent = config.name == "independent"
    decay = l2keras.WeightDecay(
        config.lam,
        coupling=config.name,
        include="*" if config.decay_all else None,
        peak_learning_rate=peak_learning_rate if independent else None,
    )
    lam = config.lam / peak_learning_rate if independent else config.lam
    return Method(lam, callbacks=(decay,))
