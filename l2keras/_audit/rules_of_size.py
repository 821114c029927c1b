"""Findings about decay that is too strong: a step turns signs, or the weights grow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from l2keras._audit.rows import Finding
from l2keras._audit.strength import Strength, strength_of
from l2keras._audit.subject import Item, Subject, paths, sources

_TOLERANCE = 1e-6  # learning rates are float32


def decay_too_large(subject: Subject) -> Iterator[Finding]:
    """Decay that takes all of W away in a step, or more, or so much that W grows."""
    groups: dict[tuple[bool, str, str], list[Item]] = defaultdict(list)
    for item in subject.items:
        strength = _strength(item)
        diverges = strength.load > 1 + _TOLERANCE
        if diverges or strength.taken > 1 - _TOLERANCE:
            by = " and ".join(dict.fromkeys(sources(item.row)))
            groups[diverges, f"{strength.taken:.3g}", by].append(item)
    for (diverges, taken, by), items in groups.items():
        effect = "they grow without bound" if diverges else "it erases them or turns their sign"
        yield Finding(
            "error" if diverges else "warning",
            "decay-diverges" if diverges else "decay-turns-signs",
            f"At the largest learning rate a step takes {taken} times the weights away, so that "
            f"{effect}; by {by}: {paths(items)}.",
            f"Divide lam by much more than {taken}; it is to be far below 1 / learning rate, and "
            'with coupling="independent" far below 1.',
        )


def _strength(item: Item) -> Strength:
    row = item.row
    total = strength_of(item.optimizer, row.lam_optimizer, coupled=False)
    total += strength_of(item.optimizer, row.lam_regularizer or 0.0, coupled=True)
    for decay in row.callbacks:
        total += Strength(decay.taken, decay.load)
    return total
