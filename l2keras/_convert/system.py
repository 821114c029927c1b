"""What a system is to `l2keras.convert`: a kind of decay, and how its coefficient counts.

W is W_t, g the gradient of the data loss at W, eta_t the learning rate at step t, c the number
that is passed to the system. What decays a weight is one of four kinds, each with its strength:

    coupled      g + lam * W                         the optimizer sees the decay; penalties too
    decoupled    (1 - eta_t * lam) * W               beside the optimizer's step
    independent  (1 - s * eta_t / eta_init) * W      s = eta_init * lam
    fixed        (1 - s) * W                         s = eta * lam, only if eta is constant
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """How a coefficient counts: strength = factor * c / divisor, or 1 / (c * divisor)."""

    factor: float = 1.0
    per: str = ""  # the argument of `convert` that divides: "num_samples" for a sum over them
    root: bool = False  # its square root does
    reciprocal: bool = False

    def divisor(self, count: int | None) -> float:
        """What divides, from the value of the argument `per`."""
        return math.sqrt(count or 1) if self.root else float(count or 1)

    def strength(self, c: float, divisor: float) -> float:
        """From the coefficient of the system to the strength of its kind."""
        return 1.0 / (c * divisor) if self.reciprocal else self.factor * c / divisor

    def coefficient(self, strength: float, divisor: float) -> float:
        """The inverse of `strength`."""
        return 1.0 / (strength * divisor) if self.reciprocal else strength * divisor / self.factor


@dataclass(frozen=True, slots=True)
class System:
    """One convention; `update` and `note` are for people, the other fields decide."""

    name: str
    kind: str
    update: str
    source: str
    _: KW_ONLY
    scale: Scale = Scale()
    optimizer: str | None = None  # the family that it belongs to: "sgd" or "adam"
    velocity: str | None = None  # the learning rate is "inside" the velocity, or "outside" it
    clipped: bool | None = False  # whether the decay is clipped with g; None: nothing is
    note: str = ""

    @property
    def uses_rate(self) -> bool:
        """Whether a learning rate stands between the strength and lam."""
        return self.kind in ("independent", "fixed")

    @property
    def lam(self) -> str:
        """lam as a formula in c."""
        rate = {"independent": ["eta_init"], "fixed": ["eta"]}.get(self.kind, [])
        count = f"sqrt({self.scale.per})" if self.scale.root else self.scale.per
        below = [*(["c"] if self.scale.reciprocal else []), *rate, *([count] if count else [])]
        above = "c" if self.scale.factor == 1.0 else f"{self.scale.factor:g}*c"
        above = "1" if self.scale.reciprocal else above
        divisor = f"({'*'.join(below)})" if len(below) > 1 else "".join(below)
        return f"{above}/{divisor}" if below else above
