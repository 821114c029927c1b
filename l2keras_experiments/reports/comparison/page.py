"""From the results of a comparison to sentences, a table and one self-contained HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from l2keras_experiments.config.schema import CompareConfig, optimizer_name
from l2keras_experiments.reports.comparison import arms, plots
from l2keras_experiments.reports.comparison.arms import TITLES, ArmResult
from l2keras_experiments.reports.page import FigureOnPage, render


def figures(results: Sequence[ArmResult], config: CompareConfig) -> list[FigureOnPage]:
    """The three figures of a comparison, at the lambda that suits HalfL2 best."""
    lams = arms.grid(config)
    lam = arms.best_lambda(results, lams)
    return [
        FigureOnPage(
            "accuracy_over_lambda",
            "The built-in's curve is HalfL2's, shifted by a factor of two",
            "Each point is one run; the horizontal axis is the number that was written. "
            "keras L2(lambda) does at lambda what HalfL2 does at 2*lambda. The curves are of the "
            "validation examples; a star is the test value of a method's best lambda.",
            plots.accuracy_over_lambda(results, lams),
        ),
        FigureOnPage(
            "distance_over_steps",
            "How far the weights are from HalfL2's",
            "All weights, after every epoch. Below the grey line two runs differ by rounding only; "
            "exactly equal weights are drawn at the bottom.",
            plots.distance_over_steps(results, lam, arms.tolerance(config)),
        ),
        FigureOnPage(
            "norm_over_steps",
            "What lambda does to the norm of the weights",
            "Kernels and embeddings; biases and normalization parameters are not decayed.",
            plots.norm_over_steps(results, lam),
        ),
    ]


def findings(results: Sequence[ArmResult], config: CompareConfig) -> list[str]:
    """One sentence for each method: how its weights stand to HalfL2's over the whole grid."""
    lams = arms.grid(config)
    sentences = []
    for name, title in TITLES.items():
        chosen = arms.of(results, name, lams)
        if name in ("none", arms.REFERENCE) or not chosen:
            continue
        kinds = list(dict.fromkeys(_kind(result) for result in chosen))
        farthest = max(result.distance for result in chosen)
        sentences.append(f"{title}: {'; '.join(kinds)} (largest distance {farthest:.1e}).")
    best = arms.best_lambda(results, lams)
    if math.isfinite(best):
        [selected] = [r for r in arms.of(results, arms.REFERENCE, lams) if r.arm.lam == best]
        none = [f"{_measured(r)} without any" for r in results if r.arm.name == "none"]
        shown = ", ".join([f"{_measured(selected)} at lambda = {best:g}", *none])
        metric = f"validation {selected.metric.replace('_', ' ')}"
        sentences.append(f"HalfL2's best {metric} on this grid: {shown}. One seed: not a ranking.")
        if math.isfinite(selected.tested):
            sentences.append(
                "Lambda is selected on the validation examples, so the test value of the selected "
                "lambda is an unbiased estimate."
            )
    return sentences


def _measured(result: ArmResult) -> str:
    """The score, with what was measured on the test examples in parentheses."""
    test = f" ({result.tested:.3f} on test)" if math.isfinite(result.tested) else ""
    return f"{abs(result.score):.3f}{test}"


def _kind(result: ArmResult) -> str:
    """The verdict without its numbers, so that a grid of equal verdicts is one phrase."""
    if result.verdict.startswith("same as"):
        return "same as HalfL2(2*lambda), twice what was asked"
    if result.verdict.startswith("equal"):
        return result.verdict.replace("equal", "equal to HalfL2(lambda)", 1)
    return result.verdict


def page(
    results: Sequence[ArmResult],
    config: CompareConfig,
    shown: Sequence[FigureOnPage],
    command: str,
    provenance: Mapping[str, str],
) -> str:
    """The page as HTML: no script, no link to anything outside itself."""
    lams = arms.grid(config)
    methods = len({result.arm.name for result in results})
    return render(
        "comparison.html.j2",
        title=f"One lambda, {methods} ways to write it: {describe(config)}",
        setting=_setting(config),
        findings=findings(results, config),
        figures=shown,
        columns=arms.COLUMNS,
        rows=_rows(results, lams),
        tolerance=f"{arms.tolerance(config):.1e}",
        command=command,
        provenance="\n".join(f"{key}: {value}" for key, value in provenance.items()),
    )


def describe(config: CompareConfig) -> str:
    """Data, model and optimizer in three words."""
    return f"{config.data.name}, {config.model.name}, {optimizer_name(config)}"


def _setting(config: CompareConfig) -> str:
    data, optimizer, training = config.data, config.optimizer, config.training
    examples = "all" if data.num_train is None else str(data.num_train)
    schedule = optimizer.schedule if isinstance(optimizer.schedule, str) else "its own schedule"
    return (
        f"Every run starts from the same weights and sees the same batches: {data.name} with "
        f"{examples} training examples and {data.label_noise:.0%} of their labels redrawn, "
        f"{config.model.name}{_listed(config.model.arguments)}, "
        f"{optimizer.name} with learning rate {optimizer.learning_rate:g} "
        f"({schedule}){_listed(optimizer.arguments)}, "
        f"{training.epochs} epochs of batches of {training.batch_size}, "
        f"{training.dtype.value}, seed {config.seed}."
    )


def _listed(arguments: Mapping[str, Any]) -> str:
    """Arguments in parentheses; nothing where there are none."""
    words = ", ".join(f"{name} {value}" for name, value in arguments.items())
    return f" ({words})" if words else ""


def _rows(results: Sequence[ArmResult], lams: Sequence[float]) -> list[dict[str, object]]:
    best = arms.best_lambda(results, lams)
    rows: list[dict[str, object]] = []
    previous: float | None = None
    for result in arms.table_order(results, lams):
        classes = ["group"] if result.arm.lam != previous else []
        classes += ["best"] if result.arm.lam == best else []
        rows.append({"classes": " ".join(classes), "cells": arms.row(result)})
        previous = result.arm.lam
    return rows
