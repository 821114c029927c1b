"""The MLflow runs of a study: the parent that every launch opens again, and what it carries."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from experiments import cli, search, tuning
from experiments.schema import Config, TuneConfig
from experiments.search import Tried
from experiments.tuning import LAM, OBJECTIVE, RATE

if TYPE_CHECKING:
    from experiments.run import Run
    from experiments.tracking import Store

STUDY_TAG = "tuning"  # on the parent: the name of optuna's study
COLUMNS = ("trial", "lambda", "learning rate", OBJECTIVE, "epochs", "seconds", "state")


@contextmanager
def parent_run(store: Store, node: DictConfig, config: TuneConfig, name: str) -> Iterator[Run]:
    """The parent of all trials: the run of the first launch, gone on with, or a new one."""
    chosen = f"tags.{STUDY_TAG} = '{name}'"
    found = store.client.search_runs([store.experiment_id], chosen, max_results=1)
    earlier = found[0].info.run_id if found else None
    tags = {"kind": "tuning", STUDY_TAG: name}
    node = cli.recorded(node)
    node.tune.storage = None  # its URL may hold a password
    with store.run(f"tune {tuning.words(config)}", tags=tags, resume=earlier) as run:
        # What the next launch may change is no parameter: MLflow's cannot change.
        run.log_params({k: v for k, v in cli.flatten(node).items() if k not in tuning.CHANGING})
        run.log_text(OmegaConf.to_yaml(node, resolve=True), "config.yaml")
        yield run


def kill_orphans(store: Store, parent: Run) -> None:
    """Ends the runs that a killed launch left RUNNING. The study is locked: none is alive."""
    running = f"tags.`mlflow.parentRunId` = '{parent.id}' and attributes.status = 'RUNNING'"
    for run in store.client.search_runs([store.experiment_id], running):
        store.client.set_terminated(run.info.run_id, "KILLED")


def record_pruned(run: Run, config: Config) -> None:
    """What a run that was stopped early lacks: the tag that says so, and its lambda."""
    from experiments.regularization import build_method
    from experiments.train import lambda_params

    built = build_method(config.regularization, config.optimizer.learning_rate)
    run.log_params(lambda_params(built.effective_lam))
    run.set_tags({"pruned": "true"})


def record_progress(parent: Run, trial: Tried, trials: Sequence[Tried]) -> float:
    """The trial and the best so far as metrics of the parent; returns the best."""
    best = search.best(trials)
    lowest = best.value if best else math.nan
    shown = {"trial." + OBJECTIVE: trial.value, "best." + OBJECTIVE: lowest}
    finite = {key: value for key, value in shown.items() if math.isfinite(value)}
    parent.log_metrics(finite, step=trial.number)
    return lowest


def record_summary(parent: Run, trials: Sequence[Tried], best: Tried, preset: Path) -> None:
    """The best, the table, the figures and the preset into the parent run."""
    from experiments import search_figures

    parent.log_summary({f"best.{key}": value for key, value in best.params.items()})
    parent.set_tags({f"best.{key}": f"{value:.6g}" for key, value in best.params.items()})
    parent.set_tags({"best.trial": str(best.number), "num_trials": str(len(trials))})
    parent.log_table(COLUMNS, [row(trial) for trial in trials], "tuning.json")
    parent.log_file(preset)
    with tempfile.TemporaryDirectory() as folder:
        for figure in search_figures.figures(trials):
            parent.log_text(figure.svg, f"{figure.name}.svg")
            path = Path(folder) / f"{figure.name}.png"
            path.write_bytes(figure.png)
            parent.log_file(path)


def row(trial: Tried) -> list[str]:
    """One line of the table."""
    params = [f"{trial.params[key]:.4g}" if key in trial.params else "-" for key in (LAM, RATE)]
    value = f"{trial.value:.5g}" if math.isfinite(trial.value) else "-"
    state = f"{trial.state}: {trial.error}" if trial.error else trial.state
    return [str(trial.number), *params, value, str(trial.epochs), f"{trial.seconds:.1f}", state]
