"""The measurements: what comes out of them are medians."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from benchmarks.sweepcost import compiling, products
from benchmarks.sweepcost.cases import Case
from benchmarks.sweepcost.sides import Sides, timed


@dataclass(frozen=True)
class Found:
    """Seconds, medians of all rounds.

    `fit` is of one fit of the loop; `compiling` is a part of `swept`; `products` are known where
    they bound a goal. The best loop is one of the faster of `plain` and `fit`.
    """

    plain: float
    fit: float
    swept: float
    compiling: float
    products: float | None
    notes: str

    def loop(self, case: Case) -> float:
        """All members one by one, each as fast as is known."""
        return case.members * min(self.plain, self.fit)

    def throughput(self, case: Case) -> float:
        """Of the sweep, over that of the best loop."""
        return self.loop(case) / self.swept


def measure(case: Case, rounds: int) -> Found:
    """The sides take turns."""
    sides = Sides(case)
    sides.plain()  # what is imported and initialized at the first fit counts for nobody
    model = case.build()
    bounded = case.one_fit and bool(products.kernels_of(model))
    plain, looped, swept, compiled, least = [], [], [], [], []
    for _ in range(rounds):
        plain.append(timed(sides.plain)[0])
        looped.append(timed(sides.looped)[0] / len(sides.timed))
        with compiling.watched() as programs:
            seconds, result = timed(sides.swept)
        swept.append(seconds)
        compiled.append(sum(programs))
        if bounded:
            least.append(case.steps * products.seconds(model, case.members, case.batch_size))
    one, fit, all_at_once, made = map(statistics.median, (plain, looped, swept, compiled))
    known = statistics.median(least) if least else None
    return Found(one, fit, all_at_once, made, known, "; ".join(result.notes))
