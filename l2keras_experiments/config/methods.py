"""The names of the methods: what a person types, and what every page, figure and table shows."""

from __future__ import annotations

# From the name in the group `regularization` (or in `compare.arms`) to the label for people.
LABELS = {
    "none": "none",
    "builtin_l2": "keras L2",
    "builtin_half": "keras L2 halved",
    "half_l2": "HalfL2",
    "decoupled": "WeightDecay decoupled",
    "coupled": "WeightDecay coupled",
    "independent": "WeightDecay independent",
    "optimizer_weight_decay": "keras weight_decay",
}

# Those of Okabe and Ito, which colour-blind people tell apart.
COLORS = {
    "none": "#777777",
    "builtin_l2": "#d55e00",
    "builtin_half": "#e69f00",
    "half_l2": "#0072b2",
    "decoupled": "#009e73",
    "coupled": "#cc79a7",
    "independent": "#56b4e9",
    "optimizer_weight_decay": "#000000",
}


def label(name: str) -> str:
    """Returns the label of a method; a name that is not in the table is its own label."""
    return LABELS.get(name, name)


def name(shown: str) -> str:
    """Returns the name of a method; the inverse of `label`."""
    return next((name for name, label in LABELS.items() if label == shown), shown)


def short(name: str) -> str:
    """Returns the part of the label that differs between methods, for names of 12 letters."""
    found = label(name)
    for common in ("keras ", "WeightDecay "):
        found = found.removeprefix(common)
    return found
