"""The ways to regularize a step, all with the same lambda."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

import l2keras

LAM = 1e-4
LEARNING_RATE, MOMENTUM = 0.01, 0.9

NONE = "none"
BUILTIN = "Keras L2(lam/2)"
HALF = "HalfL2"
OPTIMIZER = "optimizer weight_decay"
DECOUPLED = "WeightDecay, decoupled"
COUPLED = "WeightDecay, coupled"
INDEPENDENT = "WeightDecay, independent"
PLAIN = "WeightDecay, decoupled, plain"
OURS = (HALF, DECOUPLED, COUPLED, INDEPENDENT)
SETTINGS = f"lambda = {LAM}, SGD with learning rate {LEARNING_RATE} and momentum {MOMENTUM}."


@dataclass(frozen=True)
class Variant:
    """The arguments of the model, of its optimizer and of `fit`."""

    regularizer: Any = None
    weight_decay: float | None = None
    callbacks: tuple[Any, ...] = ()

    def optimizer(self) -> Any:
        """Returns SGD with momentum."""
        return keras.optimizers.SGD(LEARNING_RATE, MOMENTUM, weight_decay=self.weight_decay)


def _decay(coupling: str, **settings: Any) -> Callable[[], Variant]:
    def variant() -> Variant:
        return Variant(callbacks=(l2keras.WeightDecay(LAM, coupling=coupling, **settings),))

    return variant


VARIANTS: dict[str, Callable[[], Variant]] = {
    NONE: Variant,
    BUILTIN: lambda: Variant(regularizer=keras.regularizers.L2(LAM / 2)),
    HALF: lambda: Variant(regularizer=l2keras.HalfL2(LAM)),
    OPTIMIZER: lambda: Variant(weight_decay=LAM),
    DECOUPLED: _decay("decoupled"),
    COUPLED: _decay("coupled"),
    INDEPENDENT: _decay("independent"),
    PLAIN: _decay("decoupled", fused=False),
}


def names(mode: str) -> list[str]:
    """Returns the variants of a mode; `plain` is in graph mode only, because elsewhere all are."""
    return [name for name in VARIANTS if name != PLAIN or mode == "graph"]
