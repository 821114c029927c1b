"""Findings about what decays: twice, where it should not, not where it should, or in vain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import keras

from l2keras._audit.callback_decay import is_weight_decay
from l2keras._audit.rows import Finding, Row
from l2keras._audit.subject import Item, Subject, own_parts, paths, peak_or_current, sources

# The gap between 1 and the next number: W * (1 - s) rounds back to W for every W where
# s < gap / 4, and for some where s < gap / 2.
EPSILON = {
    "bfloat16": 2.0**-7,
    "float16": 2.0**-10,
    "float32": 2.0**-23,
    "float64": 2.0**-52,
}


_DROP = {
    "regularizer": "set no regularizer",
    "optimizer": "pass weight_decay=None to the optimizer (Adam instead of AdamW)",
    "callback": "exclude= them in the callback",
}


def decayed_twice(subject: Subject) -> Iterator[Finding]:
    """Any two of regularizer, optimizer and callbacks on one variable.

    A warning where one of them may not act: a penalty that a loss of one's own may leave out, or
    a callback whose optimizer may not update the variable.
    """
    has_own_loss = bool(own_parts(subject.model))
    groups: dict[tuple[bool, tuple[str, ...]], list[Item]] = defaultdict(list)
    for item in subject.items:
        certain = _num_certain(item.row, has_own_loss)
        groups[certain > 1, tuple(sources(item.row))].append(item)
    for (is_certain, found), items in groups.items():
        if len(found) > 1:
            yield Finding(
                "error" if is_certain else "warning",
                "decayed-twice",
                f"{'Decayed' if is_certain else 'May be decayed'} by {' and '.join(found)}: "
                f"{paths(items)}.",
                "Keep one of them: "
                + ", or ".join(_DROP[source] for source in dict.fromkeys(found))
                + ".",
            )


def _num_certain(row: Row, has_own_loss: bool) -> int:
    """How many sources decay the variable for certain."""
    decaying = sources(row)
    unknown = sum(not decay.is_known for decay in row.callbacks)
    return len(decaying) - (has_own_loss and "regularizer" in decaying) - unknown


_KINDS = {
    "bias": "Biases",
    "norm": "Normalization parameters",
    "positional": "Positional parameters or tokens",
    "scale": "Gains and slopes",
    "vector": "Gains and other vectors",
}

_LEAVE_OUT = {
    "regularizer": "Set no regularizer on them.",
    "optimizer": "Call optimizer.exclude_from_weight_decay(var_list=[...]) before fit, or use "
    "l2keras.WeightDecay, which leaves biases and norms out.",
    "callback": "Pass exclude= to the callback.",
}


def small_parameters_decayed(subject: Subject) -> Iterator[Finding]:
    """Biases, norm and positional parameters with a lam of their own."""
    for kind, name in _KINDS.items():
        items = [
            item
            for item in subject.items
            if item.row.kind == kind and sources(item.row) and not item.row.is_guess
        ]
        if not items:
            continue
        found = {source for item in items for source in sources(item.row)}
        remedy = " ".join(text for source, text in _LEAVE_OUT.items() if source in found)
        message = f"{name} are decayed, by {' and '.join(sorted(found))}: {paths(items)}."
        yield Finding("warning", f"{kind}-decayed", message, remedy)


def roles_guessed(subject: Subject) -> Iterator[Finding]:
    """Variables of which only the shape says whether they decay, where that decides or matters."""
    by_rule = any(
        is_weight_decay(callback) and callback.include is None for callback in subject.callbacks
    )
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in subject.items:
        row = item.row
        if not (row.is_guess and row.trainable):
            continue
        if row.kind == "kernel":
            if by_rule and row.callbacks:
                groups["decayed, as kernels are"].append(item)
        elif "optimizer" in sources(row):
            groups["decayed, though gains or biases by their shape"].append(item)
        elif by_rule and not row.callbacks:
            groups["not decayed, as gains and biases are not"].append(item)
    for decision, items in groups.items():
        yield Finding(
            "info",
            "role-guessed",
            f"Neither name nor layer says clearly what these are; they are {decision}: "
            f"{paths(items)}.",
            'Name them "kernel", "gamma" or "bias", or choose with include= and exclude=; '
            "report.to_text(reasons=True) says why.",
        )


def kernels_left_out(subject: Subject) -> Iterator[Finding]:
    """Kernels that are not decayed while others of the same layer class and role are."""
    groups: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in subject.items:
        if item.row.trainable and item.row.kind == "kernel":
            groups[item.row.layer, item.row.role].append(item)
    for (layer, role), items in groups.items():
        left_out = [item for item in items if not item.row.decayed]
        if 0 < len(left_out) < len(items):
            yield Finding(
                "warning",
                "kernel-not-decayed",
                f"Not decayed, while {len(items) - len(left_out)} of {len(items)} {layer} "
                f"{role} variables are: {paths(left_out)}.",
                "Give them the same regularizer, or include= them; leave them only if meant so.",
            )


def decay_lost_to_rounding(subject: Subject) -> Iterator[Finding]:
    """Decay by less than the dtype can express.

    The optimizer's own decay is an assignment of its own, so it is lost in every dtype. A
    penalty is added to the gradient: alone it would be lost, and is told of in 16 bits only.
    WeightDecay sees to its own precision.
    """
    peaks = {id(optimizer): peak_or_current(optimizer) for optimizer in subject.optimizers}
    groups: dict[tuple[str, str, bool], list[Item]] = defaultdict(list)
    for item in subject.items:
        peak = peaks.get(id(item.optimizer), 0.0)
        gap = EPSILON.get(item.row.dtype, 0.0)
        for source, shrink in _shrinks(item, peak).items():
            if 0 < shrink < gap / 2:
                groups[source, item.row.dtype, shrink < gap / 4].append(item)
    for (source, dtype, every), items in groups.items():
        alone = " on its own" if source == "regularizer" else ""
        effect = "changes no weight" if every else "is rounded up or away, weight by weight"
        yield Finding(
            "error" if every and source == "optimizer" else "warning",
            "decay-lost-to-rounding",
            f"The {source}'s shrink per step is below half a unit in the last place of {dtype} "
            f"and{alone} {effect}: {paths(items)}.",
            "Use l2keras.WeightDecay, which is effective in low precision, float32 variables "
            "(mixed_bfloat16), or a larger learning rate * lam.",
        )


def _shrinks(item: Item, peak: float) -> dict[str, float]:
    row, found = item.row, {"optimizer": item.row.lam_optimizer * peak}
    if row.dtype in ("bfloat16", "float16") and isinstance(item.optimizer, keras.optimizers.SGD):
        gain = 1 / (1 - item.optimizer.momentum)
        found["regularizer"] = (row.lam_regularizer or 0.0) * peak * gain
    return found


def frozen_with_penalty(subject: Subject) -> Iterator[Finding]:
    """Frozen variables with a regularizer, but for the kernel under LoRA, whose pair has it."""
    items = [
        item
        for item in subject.items
        if not item.row.trainable
        and item.variable.regularizer is not None
        and not getattr(item.owner, "lora_enabled", False)
    ]
    if items:
        yield Finding(
            "info",
            "frozen-with-penalty",
            f"Frozen, so that Keras leaves the penalty out of the loss: {paths(items)}.",
            "Nothing to do while they stay frozen; unfreezing brings the penalty back.",
        )


def embeddings_made_dense(subject: Subject) -> Iterator[Finding]:
    """A regularizer or optimizer decay on an Embedding; other backends have no sparse gradients."""
    if keras.backend.backend() != "tensorflow":
        return
    items = [
        item
        for item in subject.items
        if isinstance(item.owner, keras.layers.Embedding)
        and item.row.role == "embeddings"
        and {"regularizer", "optimizer"} & set(sources(item.row))
    ]
    if items:
        yield Finding(
            "warning",
            "embedding-made-dense",
            f"Every step computes with every row, not only with those of the batch: "
            f"{paths(items)}.",
            "Leave them out, or decay them with l2keras.WeightDecay(lam, lazy=True).",
        )
