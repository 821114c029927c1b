"""Findings about what a report cannot see: steps compiled before, and losses of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from l2keras._audit.callback_decay import is_weight_decay
from l2keras._audit.rows import Finding
from l2keras._audit.subject import Subject, is_traced, listed, own_parts
from l2keras._keras import own_decay
from l2keras._keras.variables import sublayers


def compiled_before(subject: Subject) -> Iterator[Finding]:
    """A compiled step goes on with what it was traced with; WeightDecay has one of its own."""
    if not is_traced(subject.model) or any(map(is_weight_decay, subject.callbacks)):
        return
    for optimizer in subject.optimizers:
        name = type(optimizer).__name__
        if own_decay.decay_set_too_late(optimizer):
            yield Finding(
                "error",
                "weight-decay-too-late",
                f"The weight_decay of {name} was set after its step was compiled, which does not "
                "decay.",
                "Call model.compile again.",
            )
        if own_decay.decay_may_go_on(optimizer):
            yield Finding(
                "warning",
                "weight-decay-goes-on",
                f"{name} has no weight_decay now and had one in a step before: if that is the "
                "step that is compiled, it goes on.",
                "Call model.compile again.",
            )
    yield Finding(
        "info",
        "step-compiled-before",
        "The train step was compiled before this report: regularizers and weight_decay that were "
        "set, changed or removed since do not act in it, and are reported as they are now.",
        "After such a change call model.compile again; l2keras.attach sees to it.",
    )


def losses_of_ones_own(subject: Subject) -> Iterator[Finding]:
    """A train_step, compute_loss or losses that is not Keras' own may leave penalties out."""
    model = subject.model
    own = own_parts(model)
    if own:
        penalized = [i.row.path for i in subject.items if i.row.trainable and i.row.regularizer]
        concerned = f", those of {listed(penalized)}" if penalized else ""
        yield Finding(
            "warning" if penalized else "info",
            "loss-of-its-own",
            f"{type(model).__name__} has its own {' and '.join(own)}: this report cannot know "
            f"whether the penalties of regularizers{concerned} are in the loss once, or others.",
            "Check that its loss has sum(self.losses) or l2keras.model_penalty(self) once, and no "
            "other penalty of weights.",
        )
    adding = [layer.name for layer in sublayers(model) if _adds_losses(layer)]
    if adding:
        yield Finding(
            "info",
            "losses-added",
            f"add_loss is called by {', '.join(adding[:3])}{', ...' * (len(adding) > 3)}: whether "
            "that penalizes weights is not known here.",
            "Penalize weights by a regularizer, or by l2keras.WeightDecay.",
        )


def _adds_losses(layer: Any) -> bool:
    methods = [getattr(type(layer), name) for name in ("build", "call")]
    codes = [getattr(method, "__code__", None) for method in methods]
    is_known = type(layer).__module__.split(".")[0] == keras.__name__
    return not is_known and any("add_loss" in code.co_names for code in codes if code)


def optimizers_of_ones_own(subject: Subject) -> Iterator[Finding]:
    """Decay that is part of an update, which is not read: Ftrl's, and of other classes."""
    for optimizer in subject.optimizers:
        kind = type(optimizer)
        if isinstance(optimizer, keras.optimizers.Ftrl) and _ftrl_penalizes(optimizer):
            what = "penalizes weights by its own l1 and l2 arguments, which are not in this report"
        elif kind.__module__.split(".")[0] != keras.__name__:
            what = "is not an optimizer of Keras: what its update decays is not known here"
        else:
            continue
        yield Finding(
            "info",
            "optimizer-of-its-own",
            f"{kind.__name__} {what}.",
            "Decay by one means only: here, by a regularizer, or by l2keras.WeightDecay.",
        )


def _ftrl_penalizes(optimizer: Any) -> bool:
    names = ("l1_regularization", "l2_regularization", "l2_shrinkage_regularization")
    return any(getattr(optimizer, f"{name}_strength") for name in names)
