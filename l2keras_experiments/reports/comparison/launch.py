"""The main job: trains every arm of a comparison, records it and writes its page.

Every arm is trained by a `fit` of its own, not at once with others: arms are compared to the last
bit, and stacked weights are equal to those of `fit` to rounding only.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from l2keras_experiments.commands import validation
from l2keras_experiments.config import credentials, flattening, methods, nodes, program
from l2keras_experiments.config.schema import CompareConfig
from l2keras_experiments.data.datasets import Dataset, load_data
from l2keras_experiments.reports import views
from l2keras_experiments.reports.comparison import arms
from l2keras_experiments.reports.comparison.arms import REFERENCE, Arm, ArmResult
from l2keras_experiments.runtime import device, progress
from l2keras_experiments.tracking.provenance import versions
from l2keras_experiments.tracking.recording import method_tags, record_trial
from l2keras_experiments.tracking.run import Run
from l2keras_experiments.tracking.store import Store, ui_command
from l2keras_experiments.training.selection import selection_of

if TYPE_CHECKING:
    import numpy as np


# Columns of the UI beside method, lambda and accuracy.
BESIDE = ("tags.distance", "tags.verdict", "tags.as_written", "tags.penalty", "tags.weight_norm")


def compare(node: DictConfig) -> None:
    """Trains every arm, records it, and leaves the table, the figures and the page."""
    config: CompareConfig = validation.typed(node)
    arms.check_comparison(config)
    print("loading the backend ...", file=sys.stderr)

    from l2keras_experiments.reports.comparison import page

    device_name = device.set_up(config)
    from l2keras_experiments.training.trial import rehearse  # with Keras

    data = load_data(config.data, config.seed, config.training.dtype.value)
    rehearse(arms.configure(config, arms.plan(config)[0]), data)
    store = Store(config.tracking.uri, config.tracking.study)
    name = f"compare {page.describe(config)}"
    with store.run(name, tags={"kind": "comparison"}) as parent:
        recorded = flattening.recorded(node)
        parent.log_params(flattening.flatten(recorded))
        parent.log_text(OmegaConf.to_yaml(recorded, resolve=True), "config.yaml")
        results = train_arms(store, parent, node, config, data, device_name)
        path = record_summary(parent, config, results, device_name)
        shown = views.of_runs(parent.id, name, results[0].selection, BESIDE)
        views.save(store, parent.id, shown)
    show(config, results)
    print(f"page: {path}")
    print(f"study {store.study!r} of {store.uri}")
    print(f"MLflow UI: {ui_command(store.uri)}")
    views.show(store, parent.id)


def train_arms(
    store: Store,
    parent: Run,
    node: DictConfig,
    config: CompareConfig,
    data: Dataset,
    device_name: str,
) -> list[ArmResult]:
    """Every arm of the plan, each a child run of `parent`."""

    planned = arms.plan(config)
    references: dict[float, np.ndarray] = {}
    results: list[ArmResult] = []
    total = len(planned) * config.training.epochs
    selection = config.training.selection
    with progress.bar(total, "comparing", config.training.progress, selection) as advance:
        for arm in planned:
            arm_config = arms.configure(config, arm)
            arm_node = node.copy()
            shown_lam = float(f"{arm.pasted:.7g}")  # of float32, as the arm has it
            arm_node.regularization = nodes.group_node(
                replace(arm_config.regularization, lam=shown_lam)
            )
            tags = {"arm": arm.name, "label": arm.label, **method_tags(arm.name)}
            if arm.name != "none":
                tags["as_written"] = f"{arm.pasted:g}"
            monitored = config.tracking.system_metrics
            with store.run(
                arm.run_name, parent=parent.id, tags=tags, system_metrics=monitored
            ) as run:
                shown = functools.partial(advance, label=arm.label)
                trial = record_trial(
                    run, arm_node, arm_config, data, device_name, shown, keep_trajectory=True
                )
                result = judge(arm, config, trial, references)
                run.set_tags({"verdict": result.verdict})
                if result.distances is not None:
                    for epoch, distance in enumerate(result.distances[1:]):
                        run.log_metrics({"distance": distance}, step=epoch)
                    run.set_tags({"distance": arms.shown_distance(result.distances[-1])})
            results.append(result)
            if not sys.stderr.isatty():  # no bar there: a line for each arm
                summary = progress.summary(trial.history, selection)
                print(f"{len(results)}/{len(planned)} {arm.label}: {summary}", file=sys.stderr)
    return results


def judge(
    arm: Arm, config: CompareConfig, trial: Any, references: dict[float, np.ndarray]
) -> ArmResult:
    """Measures an arm against HalfL2; HalfL2's own trajectory joins `references`."""

    if arm.name == REFERENCE:
        references[arm.lam] = trial.trajectory
    distances = None
    to_doubled = None
    if arm.name != "none":
        distances = arms.distances(trial.trajectory, references[arm.lam])
        if 2 * arm.lam in references:
            doubled = arms.distances(trial.trajectory, references[2 * arm.lam])
            to_doubled = float(doubled.max())
    largest = float(distances.max()) if distances is not None else 0.0
    return ArmResult(
        arm=arm,
        effective_lam=trial.effective_lam,
        history=trial.history,
        test=trial.test,
        seconds=trial.seconds,
        steps_per_epoch=trial.steps_per_epoch,
        distances=distances,
        verdict=arms.verdict(arm, config, largest, to_doubled),
        selection=selection_of(config.training, trial.history),
    )


def record_summary(
    parent: Run, config: CompareConfig, results: list[ArmResult], device_name: str
) -> Path:
    """Writes table, figures and page into the parent run, the page also beside the store.

    Returns the path of that page.
    """
    from l2keras_experiments.reports import report
    from l2keras_experiments.reports.comparison import page

    figures = page.figures(results, config)
    provenance = {**versions(), "device": device_name, "MLflow run": parent.id}
    words = credentials.masked_words(sys.argv[1:])
    command = program.command("compare", *words)
    html = page.page(results, config, figures, command, provenance)
    rows = [arms.row(r) for r in arms.table_order(results, arms.grid(config))]
    parent.log_table(arms.columns(results), rows, "comparison.json")
    parent.log_metrics(dict(summary_metrics(config, results)))
    for figure in figures:
        parent.log_text(figure.svg, f"{figure.name}.svg")
    parent.log_text(html, "comparison.html")
    path = report.default_folder(parent.store) / f"comparison-{parent.id[:8]}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")
    text = json.dumps([arms.numbers(result) for result in results], indent=2)
    path.with_suffix(".json").write_text(text, encoding="utf-8")
    return path


def summary_metrics(config: CompareConfig, results: list[ArmResult]) -> Iterator[tuple[str, float]]:
    """For each method its best score, the lambda of it, and its largest distance from HalfL2."""
    for name in arms.NAMES:
        chosen = [r for r in results if r.arm.name == name and r.arm.lam in (0, *arms.grid(config))]
        if not chosen:
            continue
        lam, score = arms.best([r.arm.lam for r in chosen], [r.score for r in chosen])
        label = methods.label(name)
        yield f"{label}.best_score", score
        yield f"{label}.best_lambda", float(f"{lam:.7g}")
        if name not in ("none", REFERENCE):
            yield f"{label}.largest_distance", max(r.distance for r in chosen)


def show(config: CompareConfig, results: list[ArmResult]) -> None:
    """The table and the findings, in the terminal."""
    from l2keras_experiments.reports.comparison import page

    ordered = arms.table_order(results, arms.grid(config))
    title = f"{page.describe(config)}: methods at the same lambda"
    groups = [list(group) for _, group in itertools.groupby(ordered, key=lambda r: r.arm.lam)]
    rows = [[arms.row(result) for result in group] for group in groups]
    progress.print_table(title, arms.columns(results), rows, arms.important(results))
    for sentence in page.findings(results, config):
        progress.print_point(sentence)
