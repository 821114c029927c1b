"""From the results of a comparison to sentences, a table and one self-contained HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from experiments import comparison, comparison_plots
from experiments.comparison import TITLES, ArmResult
from experiments.page import FigureOnPage, render
from experiments.schema import CompareConfig


def figures(results: Sequence[ArmResult], config: CompareConfig) -> list[FigureOnPage]:
    """The three figures of a comparison, at the lambda that suits HalfL2 best."""
    lams = comparison.grid(config)
    lam = comparison.best_lambda(results, lams)
    return [
        FigureOnPage(
            "accuracy_over_lambda",
            "The built-in's curve is HalfL2's, shifted by a factor of two",
            "Each point is one run; the horizontal axis is the number that was written. "
            "keras L2(lambda) does at lambda what HalfL2 does at 2*lambda.",
            comparison_plots.accuracy_over_lambda(results, lams),
        ),
        FigureOnPage(
            "distance_over_steps",
            "How far the weights are from HalfL2's",
            "All weights, after every epoch. Below the grey line two runs differ by rounding only; "
            "exactly equal weights are drawn at the bottom.",
            comparison_plots.distance_over_steps(results, lam, comparison.tolerance(config)),
        ),
        FigureOnPage(
            "norm_over_steps",
            "What lambda does to the norm of the weights",
            "Kernels and embeddings; biases and normalization parameters are not decayed.",
            comparison_plots.norm_over_steps(results, lam),
        ),
    ]


def findings(results: Sequence[ArmResult], config: CompareConfig) -> list[str]:
    """One sentence for each method: how its weights stand to HalfL2's over the whole grid."""
    lams = comparison.grid(config)
    sentences = []
    for name, title in TITLES.items():
        chosen = comparison.of(results, name, lams)
        if name in ("none", comparison.REFERENCE) or not chosen:
            continue
        kinds = list(dict.fromkeys(_kind(result) for result in chosen))
        farthest = max(result.distance for result in chosen)
        sentences.append(f"{title}: {'; '.join(kinds)} (largest distance {farthest:.1e}).")
    best = comparison.best_lambda(results, lams)
    if math.isfinite(best):
        scores = {
            r.arm.lam: abs(r.score) for r in comparison.of(results, comparison.REFERENCE, lams)
        }
        none = [f"{abs(r.score):.3f} without any" for r in results if r.arm.name == "none"]
        shown = ", ".join([f"{scores[best]:.3f} at lambda = {best:g}", *none])
        metric = "test accuracy" if results[0].score >= 0 else "test data loss"
        sentences.append(f"HalfL2's best {metric} on this grid: {shown}. One seed: not a ranking.")
    return sentences


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
    lams = comparison.grid(config)
    methods = len({result.arm.name for result in results})
    return render(
        "comparison.html.j2",
        title=f"One lambda, {methods} ways to write it: {describe(config)}",
        setting=_setting(config),
        findings=findings(results, config),
        figures=shown,
        columns=comparison.COLUMNS,
        rows=_rows(results, lams),
        tolerance=f"{comparison.tolerance(config):.1e}",
        command=command,
        provenance="\n".join(f"{key}: {value}" for key, value in provenance.items()),
    )


def describe(config: CompareConfig) -> str:
    """Data, model and optimizer in three words."""
    optimizer = "momentum" if config.optimizer.momentum else config.optimizer.name
    return f"{config.data.name}, {config.model.name}, {optimizer}"


def _setting(config: CompareConfig) -> str:
    data, optimizer, training = config.data, config.optimizer, config.training
    examples = "all" if data.num_train is None else str(data.num_train)
    return (
        f"Every run starts from the same weights and sees the same batches: {data.name} with "
        f"{examples} training examples and {data.label_noise:.0%} of their labels redrawn, "
        f"{config.model.name} of width {config.model.width} and depth {config.model.depth}, "
        f"{optimizer.name} with learning rate {optimizer.learning_rate:g} "
        f"({optimizer.schedule.value}) and momentum {optimizer.momentum:g}, "
        f"{training.epochs} epochs of batches of {training.batch_size}, "
        f"{training.dtype.value}, seed {config.seed}."
    )


def _rows(results: Sequence[ArmResult], lams: Sequence[float]) -> list[dict[str, object]]:
    best = comparison.best_lambda(results, lams)
    rows: list[dict[str, object]] = []
    previous: float | None = None
    for result in comparison.table_order(results, lams):
        classes = ["group"] if result.arm.lam != previous else []
        classes += ["best"] if result.arm.lam == best else []
        rows.append({"classes": " ".join(classes), "cells": comparison.row(result)})
        previous = result.arm.lam
    return rows
