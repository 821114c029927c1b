"""Findings about settings that do nothing, will be lost, or will be refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import keras

from l2keras._audit.callback_decay import is_weight_decay
from l2keras._audit.rows import Finding, Row
from l2keras._audit.subject import Item, Subject, is_traced, paths, sources
from l2keras._keras import optimizers, own_decay
from l2keras._keras.held import own_optimizers, updated_variables
from l2keras._keras.variables import is_built
from l2keras.regularizers import terms_of


def exclusions_without_effect(subject: Subject) -> Iterator[Finding]:
    """Settings on a wrapper, which Keras never reads, or made after the step was compiled."""
    wrapper = getattr(subject.model, "optimizer", None)
    if wrapper is not None and wrapper not in subject.optimizers:
        name = type(wrapper).__name__
        if wrapper.weight_decay or own_decay.has_exclusions(wrapper):
            yield Finding(
                "error",
                "wrapper-ignored",
                f"weight_decay or exclude_from_weight_decay was set on the {name}, which Keras "
                "wraps around the optimizer and which does nothing with it.",
                "Set it on model.optimizer.inner_optimizer, or on each of .optimizers.",
            )
    if not is_traced(subject.model):
        return
    for optimizer in filter(own_decay.excluded_too_late, subject.optimizers):
        yield Finding(
            "error",
            "exclusions-too-late",
            f"The exclusions of {type(optimizer).__name__} were set after its step was compiled, "
            "which does not look at them again.",
            "Call model.compile again, and exclude_from_weight_decay before fit.",
        )


def exclusions_without_match(subject: Subject) -> Iterator[Finding]:
    """Names and variables given to the optimizer's exclude_from_weight_decay that match nothing."""
    for optimizer in subject.optimizers:
        variables = [item.variable for item in subject.items]
        unmatched = own_decay.unmatched_exclusions(optimizer, variables)
        if unmatched:
            yield Finding(
                "warning",
                "exclude-matches-nothing",
                f"{type(optimizer).__name__}.exclude_from_weight_decay matches no variable with "
                f"{', '.join(unmatched)}.",
                "var_names are searched for in variable.name, which holds the layer on TensorFlow "
                'only: pass var_list=[v for v in model.weights if "..." in v.path].',
            )


def exclusions_and_saving(subject: Subject) -> Iterator[Finding]:
    """Exclusions that load_model will lose, or may have lost already, or that leave nothing."""
    for optimizer in subject.optimizers:
        mine = [item for item in subject.items if item.optimizer is optimizer]
        excluded = [item for item in mine if own_decay.excludes(optimizer, item.variable)]
        small = [i for i in mine if i.row.lam_optimizer and i.row.kind in ("bias", "norm", "scale")]
        if excluded and any(own_decay.coefficients(optimizer)):
            rule = _all_excluded if len(excluded) == len(mine) else _not_saved
            yield rule(type(optimizer).__name__, excluded)
        elif small and not own_decay.has_exclusions(optimizer):
            yield _no_exclusions(type(optimizer).__name__, small)


def _all_excluded(name: str, excluded: list[Item]) -> Finding:
    return Finding(
        "error",
        "all-excluded",
        f"The weight_decay of {name} decays nothing, because it excludes all {paths(excluded)}; "
        "on torch Keras fails at the first step.",
        "Exclude less: names are searched for anywhere in variable.name. Or pass "
        "weight_decay=None.",
    )


def _not_saved(name: str, excluded: list[Item]) -> Finding:
    return Finding(
        "warning",
        "exclusions-not-saved",
        f"The exclusions of {name} are not saved: after load_model it decays {paths(excluded)} "
        "too.",
        "Call exclude_from_weight_decay again after load_model, before fit; or use "
        "l2keras.WeightDecay, which chooses by path each time.",
    )


def _no_exclusions(name: str, small: list[Item]) -> Finding:
    return Finding(
        "info",
        "no-exclusions",
        f"{name} decays biases or norms and has no exclusions: none were set, or load_model "
        f"dropped them; {paths(small)}.",
        "If they were set before saving, call exclude_from_weight_decay again.",
    )


def regularizer_mismatch(subject: Subject) -> Iterator[Finding]:
    """A regularizer on the layer but not on the variable, which acts, or the reverse."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in subject.items:
        name = _regularizer_attribute(item)
        if name is None or not keras.backend.is_float_dtype(item.row.dtype):
            continue  # a quantized kernel has no gradient
        if not item.row.trainable and getattr(item.owner, "lora_enabled", False):
            continue  # its pair has the regularizer
        on_layer, on_variable = getattr(item.owner, name), item.variable.regularizer
        if on_layer is on_variable or _same(on_layer, on_variable):
            continue
        if on_variable is None:
            groups["layer"].append(item)
        else:
            groups["variable" if on_layer is None else "both"].append(item)
    for where, items in groups.items():
        code, message, remedy = _MISMATCHES[where]
        yield Finding("warning", code, f"{message}: {paths(items)}.", remedy)


_ATTACH = "Use l2keras.attach(model, regularizer), which sets it on both."
_MISMATCHES = {
    "layer": (
        "regularizer-not-on-variable",
        "A regularizer was set on a layer that was built already: it does nothing until the model "
        "is saved and loaded",
        _ATTACH,
    ),
    "variable": (
        "regularizer-not-on-layer",
        "A regularizer was set on a variable and not on its layer: it acts, and is lost by save "
        "and clone_model",
        _ATTACH,
    ),
    "both": (
        "regularizers-differ",
        "The regularizer of the layer and that of its variable differ: the variable's acts now, "
        "the layer's after load_model",
        _ATTACH,
    ),
}


def _regularizer_attribute(item: Item) -> str | None:
    """The attribute of the layer that holds the variable's regularizer, by Keras' naming."""
    role = item.row.role
    if role.startswith("lora_"):
        role = role.removeprefix("lora_")[:-2]  # lora_kernel_a inherits the kernel's
    candidates = [f"{role}_regularizer", f"{role.removesuffix('_kernel')}_regularizer"]
    if role == "kernel":
        candidates.append("depthwise_regularizer")
    return next((name for name in candidates if hasattr(item.owner, name)), None)


def _same(first: Any, second: Any) -> bool:
    try:
        first = keras.regularizers.get(first)  # a layer may have been given "l2"
    except ValueError:
        return False
    return (first is None) == (second is None) and terms_of(first) == terms_of(second)


def penalty_in_monitor(subject: Subject) -> Iterator[Finding]:
    """A callback that acts on `loss` or `val_loss` while a penalty is inside."""
    penalized = [item for item in subject.items if "regularizer" in _penalties(item.row)]
    if not penalized:
        return
    for callback in subject.callbacks:
        monitor = getattr(callback, "monitor", None)
        if monitor in ("loss", "val_loss") and getattr(callback, "save_best_only", True):
            better = monitor.replace("loss", "data_loss")
            yield Finding(
                "warning",
                "penalty-in-monitor",
                f"{type(callback).__name__} watches {monitor}, which contains the penalty of "
                f"{paths(penalized)}.",
                f'Add l2keras.PenaltySplit and pass monitor="{better}".',
            )


def _penalties(row: Row) -> list[str]:
    unknown = row.trainable and row.regularizer and row.lam_regularizer is None
    return ["regularizer"] if unknown else sources(row)


def refused_optimizer(subject: Subject) -> Iterator[Finding]:
    """WeightDecay with an optimizer that decays already, or whose step undoes the decay."""
    for callback in filter(is_weight_decay, subject.callbacks):
        if callback.optimizer is None and getattr(subject.model, "optimizer", None) is None:
            continue  # not compiled yet
        optimizer = callback._optimizer_of(subject.model)
        try:
            optimizers.check_supported(optimizer, callback.coupling)
        except ValueError as error:
            message = f"`fit` will raise: {error}"
            yield Finding("error", "callback-refused", message, "Change one of the two.")


def not_known_yet(subject: Subject) -> Iterator[Finding]:
    """Layers without variables, and variables whose optimizer is not chosen yet."""
    if not is_built(subject.model):
        yield Finding(
            "info",
            "unbuilt-layers",
            "Some layers have no variables yet, and are not in this report.",
            "Call the model on data, and audit it again.",
        )
    unknown = [item for item in subject.items if item.row.trainable and item.optimizer is None]
    if unknown and getattr(subject.model, "optimizer", None) is not None:
        yield Finding(
            "info",
            "optimizer-not-known",
            "A MultiOptimizer with a function chooses its members when it is built; not known "
            f"yet: {paths(unknown)}.",
            "Call model.optimizer.build(model.trainable_variables) first.",
        )
    others = [
        name
        for name, optimizer in own_optimizers(subject.model).items()
        if optimizer is not getattr(subject.model, "optimizer", None)
        and updated_variables(optimizer) is None
    ]
    if others:
        yield Finding(
            "info",
            "optimizer-not-built",
            f"The variables that {', '.join(others)} updates are not known before its first step; "
            "they are reported as those of the optimizer of compile.",
            "Audit the model again after a step, or call the optimizer's build.",
        )
