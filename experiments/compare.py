"""The main job: every way to write one lambda, side by side: `python -m experiments.compare`.

Every arm is trained by a `fit` of its own, not at once with others: arms are compared to the last
bit, and stacked weights are equal to those of `fit` to rounding only.
"""

from __future__ import annotations

import functools
import itertools
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf

from experiments import cli, comparison, credentials
from experiments.comparison import REFERENCE, Arm, ArmResult
from experiments.paths import CONFIGS, RUNS
from experiments.schema import CompareConfig

if TYPE_CHECKING:
    import numpy as np

    from experiments.run import Run
    from experiments.tracking import Store


def compare(node: DictConfig) -> None:
    """Trains every arm, records it, and leaves the table, the figures and the page."""
    config: CompareConfig = cli.typed(node)
    comparison.check_comparison(config)
    print("loading the backend ...", file=sys.stderr)

    from experiments import comparison_page, device
    from experiments.tracking import Store, ui_command

    device_name = device.set_up(config)
    store = Store(config.tracking.uri, config.tracking.study)
    name = f"compare {comparison_page.describe(config)}"
    with store.run(name, tags={"kind": "comparison"}) as parent:
        shown = cli.recorded(node)
        parent.log_params(cli.flatten(shown))
        parent.log_text(OmegaConf.to_yaml(shown, resolve=True), "config.yaml")
        results = train_arms(store, parent, node, config, device_name)
        path = record_summary(parent, config, results, device_name)
    show(config, results)
    print(f"page: {path}")
    print(f"MLflow UI: {ui_command(store.uri)}  (study {config.tracking.study!r} of {store.uri})")


def train_arms(
    store: Store, parent: Run, node: DictConfig, config: CompareConfig, device_name: str
) -> list[ArmResult]:
    """Every arm of the plan, each a child run of `parent`."""
    from experiments import progress
    from experiments.data import load_data
    from experiments.train import record_trial

    data = load_data(config.data, config.seed, config.training.dtype.value)
    arms = comparison.plan(config)
    references: dict[float, np.ndarray] = {}
    results: list[ArmResult] = []
    total = len(arms) * config.training.epochs
    with progress.bar(total, "comparing", config.training.progress) as advance:
        for arm in arms:
            arm_config = comparison.configure(config, arm)
            arm_node = node.copy()
            arm_node.regularization = OmegaConf.structured(arm_config.regularization)
            with store.run(arm.label, parent=parent.id, tags={"arm": arm.name}) as run:
                shown = functools.partial(advance, label=arm.label)
                trial = record_trial(
                    run, arm_node, arm_config, data, device_name, shown, keep_trajectory=True
                )
                result = judge(arm, config, trial, references)
                run.set_tags({"verdict": result.verdict})
                if result.distances is not None:
                    for epoch, distance in enumerate(result.distances[1:]):
                        run.log_metrics({"distance": distance}, step=epoch)
            results.append(result)
            if not sys.stderr.isatty():  # no bar there: a line for each arm
                summary = progress.summary(trial.history)
                print(f"{len(results)}/{len(arms)} {arm.label}: {summary}", file=sys.stderr)
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
        distances = comparison.distances(trial.trajectory, references[arm.lam])
        if 2 * arm.lam in references:
            doubled = comparison.distances(trial.trajectory, references[2 * arm.lam])
            to_doubled = float(doubled.max())
    largest = float(distances.max()) if distances is not None else 0.0
    return ArmResult(
        arm=arm,
        effective_lam=trial.effective_lam,
        history=trial.history,
        seconds=trial.seconds,
        steps_per_epoch=trial.steps_per_epoch,
        distances=distances,
        verdict=comparison.verdict(arm, config, largest, to_doubled),
    )


def record_summary(
    parent: Run, config: CompareConfig, results: list[ArmResult], device_name: str
) -> Path:
    """Table, figures and page into the parent run; the page also into runs/. Returns its path."""
    from experiments import comparison_page
    from experiments.provenance import versions

    figures = comparison_page.figures(results, config)
    provenance = {**versions(), "device": device_name, "MLflow run": parent.id}
    words = credentials.masked_words(sys.argv[1:])
    command = shlex.join(["python", "-m", "experiments.compare", *words])
    html = comparison_page.page(results, config, figures, command, provenance)
    rows = [comparison.row(r) for r in comparison.table_order(results, comparison.grid(config))]
    parent.log_table(comparison.COLUMNS, rows, "comparison.json")
    parent.log_metrics(dict(summary_metrics(config, results)))
    for figure in figures:
        parent.log_text(figure.svg, f"{figure.name}.svg")
    parent.log_text(html, "comparison.html")
    path = RUNS / "comparison.html"
    path.parent.mkdir(exist_ok=True)
    path.write_text(html, encoding="utf-8")
    return path


def summary_metrics(config: CompareConfig, results: list[ArmResult]) -> Iterator[tuple[str, float]]:
    """For each method its best score, the lambda of it, and its largest distance from HalfL2."""
    for name in comparison.LABELS:
        chosen = [
            r for r in results if r.arm.name == name and r.arm.lam in (0, *comparison.grid(config))
        ]
        if not chosen:
            continue
        lam, score = comparison.best([r.arm.lam for r in chosen], [r.score for r in chosen])
        yield f"{name}.best_score", score
        yield f"{name}.best_lambda", lam
        if name not in ("none", REFERENCE):
            yield f"{name}.largest_distance", max(r.distance for r in chosen)


def show(config: CompareConfig, results: list[ArmResult]) -> None:
    """The table and the findings, in the terminal."""
    from experiments import comparison_page, progress

    ordered = comparison.table_order(results, comparison.grid(config))
    title = f"{comparison_page.describe(config)}: one lambda, written {len(comparison.LABELS)} ways"
    groups = [list(group) for _, group in itertools.groupby(ordered, key=lambda r: r.arm.lam)]
    rows = [[comparison.row(result) for result in group] for group in groups]
    progress.print_table(title, comparison.COLUMNS, rows)
    for sentence in comparison_page.findings(results, config):
        print(f"- {sentence}")


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="compare")
def _main(node: DictConfig) -> Any:
    return cli.task(compare, node)


if __name__ == "__main__":
    cli.run(_main, CompareConfig, "compare", comparison.check_comparison)
