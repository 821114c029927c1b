"""From the results of a comparison to sentences, a table and one self-contained HTML page."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from l2keras_experiments.config import methods
from l2keras_experiments.config.schema import CompareConfig, optimizer_name
from l2keras_experiments.reports.comparison import arms, plots
from l2keras_experiments.reports.comparison.arms import ArmResult
from l2keras_experiments.reports.findings import listed
from l2keras_experiments.reports.page import FigureOnPage, render

EQUAL = {"equal up to rounding", "equal bit for bit"}  # verdicts


def figures(results: Sequence[ArmResult], config: CompareConfig) -> list[FigureOnPage]:
    """The three figures of a comparison, at the lambda that is best for HalfL2."""
    lams = arms.grid(config)
    lam = arms.best_lambda(results, lams)
    metric = results[0].metric.replace("_", " ")
    equal = _equal(results, lams)
    coincide = f" The curves of {equal} coincide; their markers differ in size." if equal else ""
    return [
        _figure(
            "accuracy_over_lambda",
            f"Validation {metric} over lambda",
            "Each point is one run. The horizontal axis is the number that the user "
            "writes; keras L2 halved gets half of it. "
            "The penalty of keras L2 lacks the factor 1/2: its curve is HalfL2's, shifted by a "
            f"factor of two. The star is the test value at the best lambda of a method.{coincide}",
            functools.partial(plots.accuracy_over_lambda, results, lams),
        ),
        _figure(
            "distance_over_steps",
            "Distance of the weights from HalfL2's",
            "All weights, after every epoch. In the grey band two runs differ by rounding only. "
            "Equal weights are drawn at the bottom.",
            functools.partial(plots.distance_over_steps, results, lam, arms.tolerance(config)),
        ),
        _figure(
            "norm_over_steps",
            "Norm of the weights",
            "Kernels and embeddings only: biases and normalization parameters are not decayed."
            f"{coincide}",
            functools.partial(plots.norm_over_steps, results, lam),
        ),
    ]


def _figure(name: str, title: str, caption: str, draw: Callable[..., str]) -> FigureOnPage:
    return FigureOnPage(name, title, caption, draw(), draw(narrow=True))


def _equal(results: Sequence[ArmResult], lams: Sequence[float]) -> str:
    """HalfL2 and the methods with the same weights, up to rounding, at each lambda; "" if none."""
    verdicts = {name: {r.verdict for r in arms.of(results, name, lams)} for name in arms.NAMES}
    found = [methods.label(name) for name, kinds in verdicts.items() if kinds and kinds <= EQUAL]
    return listed([methods.label(arms.REFERENCE), *found]) if found else ""


def findings(results: Sequence[ArmResult], config: CompareConfig) -> list[str]:
    """One sentence for each method: its distance from HalfL2 over the whole grid."""
    lams = arms.grid(config)
    sentences = []
    for name in arms.NAMES:
        chosen = arms.of(results, name, lams)
        if name in ("none", arms.REFERENCE) or not chosen:
            continue
        kinds = list(dict.fromkeys(_kind(result) for result in chosen))
        farthest = max(result.distance for result in chosen)
        sentences.append(
            f"{methods.label(name)}: {'; '.join(kinds)}. "
            f"Largest distance at the number written: {arms.shown_distance(farthest)}."
        )
    best = arms.best_lambda(results, lams)
    if math.isfinite(best):
        [selected] = [r for r in arms.of(results, arms.REFERENCE, lams) if r.arm.lam == best]
        none = [f", and {_measured(r)} without decay" for r in results if r.arm.name == "none"]
        metric = selected.metric.replace("_", " ")
        sentences.append(
            f"HalfL2 has its best validation {metric} at lambda = {best:g}: {_measured(selected)}"
            f"{''.join(none)}. One seed does not rank methods."
        )
        if math.isfinite(selected.tested):
            sentences.append(
                "The validation examples select lambda, so the test value of the selected lambda "
                "is an unbiased estimate."
            )
    return sentences


def _measured(result: ArmResult) -> str:
    """The score, with the test value in parentheses."""
    test = f" (test: {result.tested:.3f})" if math.isfinite(result.tested) else ""
    return f"{result.validated:.3f}{test}"


def _kind(result: ArmResult) -> str:
    """The verdict without its numbers, so that a grid of equal verdicts is one phrase."""
    if result.verdict.startswith("equal to lambda"):
        return "equal to HalfL2 at twice the number written"
    if result.verdict in EQUAL:
        return result.verdict.replace("equal", "equal to HalfL2 at the same lambda,", 1)
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
    count = len({result.arm.name for result in results})
    return render(
        "comparison.html.j2",
        subtitle="",
        title=f"Comparison of {count} methods at the same lambda: {describe(config)}",
        setting=_setting(config),
        findings=findings(results, config),
        figures=shown,
        columns=arms.columns(results),
        narrow=arms.narrow(results),
        rows=_rows(results, lams),
        tolerance=f"{arms.tolerance(config):.1e}",
        command=command,
        provenance="\n".join(f"{key}: {value}" for key, value in provenance.items()),
    )


def describe(config: CompareConfig) -> str:
    """Data, model and optimizer, by name."""
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
