"""The members of a sweep: what parts one from another, and where each is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

COUPLINGS = ("penalty", "coupled", "decoupled", "independent")


@dataclass(frozen=True)
class Member:
    """One training among those that run at once.

    Attributes:
        lam: lambda in the half convention.
        seed: Of the initial weights, of dropout, and of the order of the batches.
        learning_rate: Float or `LearningRateSchedule`.
        coupling: Where lambda acts: "penalty" in the loss, "coupled" in the gradient,
            "decoupled" and "independent" on the weights.
        peak: Of the learning rate, which "independent" is relative to.
    """

    lam: float
    seed: int
    learning_rate: Any
    coupling: str = "penalty"
    peak: float = 1.0


@dataclass
class State:
    """The values of one member: of trainable, other and optimizer variables."""

    trainable: list[np.ndarray]
    other: list[np.ndarray]
    optimizer: list[np.ndarray] = field(default_factory=list)

    @property
    def weights(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        return self.trainable, self.other
