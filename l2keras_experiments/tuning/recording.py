"""The MLflow runs of a study: the parent that every launch opens again, and what it carries."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from l2keras_experiments.config import flattening, nodes
from l2keras_experiments.config.schema import Config, TuneConfig
from l2keras_experiments.data.datasets import Dataset
from l2keras_experiments.tracking.recording import (
    lambda_params,
    method_tags,
    record_result,
    record_start,
)
from l2keras_experiments.tracking.run import Run
from l2keras_experiments.tracking.store import Store
from l2keras_experiments.training.regularization import build_method
from l2keras_experiments.tuning import search, space
from l2keras_experiments.tuning.search import Tried
from l2keras_experiments.tuning.space import LAM, RATE

if TYPE_CHECKING:
    from l2keras_experiments.sweeps.vectorized.stacked_run import StackedRun

STUDY_TAG = "tuning"  # on the parent: the name of optuna's study


@contextmanager
def parent_run(store: Store, node: DictConfig, config: TuneConfig, name: str) -> Iterator[Run]:
    """The parent of all trials: the run of the first launch, gone on with, or a new one."""
    chosen = f"tags.{STUDY_TAG} = '{name}'"
    found = store.client.search_runs([store.experiment_id], chosen, max_results=1)
    earlier = found[0].info.run_id if found else None
    tags = {"kind": "tuning", STUDY_TAG: name}
    node = flattening.recorded(node)
    node.tune.storage = None  # its URL may hold a password
    with store.run(f"tune {space.words(config)}", tags=tags, resume=earlier) as run:
        # What the next launch may change is no parameter: MLflow's cannot change.
        run.log_params(
            {k: v for k, v in flattening.flatten(node).items() if k not in space.CHANGING}
        )
        run.log_text(OmegaConf.to_yaml(node, resolve=True), "config.yaml")
        yield run


def open_trial(
    store: Store, parent: Run, number: int, config: Config
) -> AbstractContextManager[Run]:
    """The run of one seed of a trial; MLflow's columns show 12 letters of its name."""

    lam, rate = config.regularization.lam, config.optimizer.learning_rate
    name = f"trial {number} s{config.seed} lam={lam:.4g} eta={rate:.4g}"
    tags = {"trial": str(number), **method_tags(config.regularization.name)}
    monitored = config.tracking.system_metrics
    return store.run(name, parent=parent.id, tags=tags, system_metrics=monitored)


def kill_orphans(store: Store, parent: Run) -> None:
    """Ends the runs that a killed launch left RUNNING. The study is locked: none is alive."""
    running = f"tags.`mlflow.parentRunId` = '{parent.id}' and attributes.status = 'RUNNING'"
    for run in store.client.search_runs([store.experiment_id], running):
        store.client.set_terminated(run.info.run_id, "KILLED")


def begin(run: Run, config: Config, device_name: str, data: Dataset) -> None:
    """What is known of a run before it trains."""

    record_start(run, nodes.to_node(config), config, device_name, data)


def end(run: Run, config: Config, stacked: StackedRun, steps_per_epoch: int, data: Dataset) -> None:
    """What is known of a run of a stack when it has trained; no model is kept of it."""

    record_result(
        run,
        config,
        lam=stacked.method.effective_lam,
        updates=steps_per_epoch / config.training.gradient_accumulation_steps,
        seconds=stacked.seconds,
        last={key: values[-1] for key, values in stacked.history.items()},
        test=stacked.test,
        model=None,
        data=data,
    )


def record_pruned(run: Run, config: Config) -> None:
    """What a run that was stopped early lacks: the tag that says so, and its lambda."""

    built = build_method(config)
    run.log_params(lambda_params(built.effective_lam))
    run.set_tags({"pruned": "true"})


def record_progress(parent: Run, trial: Tried, trials: Sequence[Tried]) -> float:
    """A trial and the best of `trials` so far as metrics of the parent; returns the best."""
    best = search.best(trials)
    value, metric = best.value if best else math.nan, trial.objective.metric
    shown = {f"trial.{metric}": trial.value, f"best.{metric}": value}
    finite = {key: value for key, value in shown.items() if math.isfinite(value)}
    parent.log_metrics(finite, step=trial.number)
    return value


def record_summary(parent: Run, trials: Sequence[Tried], best: Tried, preset: Path) -> None:
    """The best, the table, the figures and the preset into the parent run."""
    from l2keras_experiments.tuning import figures

    found = best.params | best.test
    parent.log_summary({f"best.{key}": value for key, value in found.items()})
    parent.set_tags({f"best.{key}": f"{value:.6g}" for key, value in best.params.items()})
    parent.set_tags({"best.trial": str(best.number), "num_trials": str(len(trials))})
    parent.log_table(*table(trials), "tuning.json")
    parent.log_file(preset)
    with tempfile.TemporaryDirectory() as folder:
        for figure in figures.figures(trials):
            parent.log_text(figure.svg, f"{figure.name}.svg")
            path = Path(folder) / f"{figure.name}.png"
            path.write_bytes(figure.png)
            parent.log_file(path)


def table(trials: Sequence[Tried]) -> tuple[list[str], list[list[str]]]:
    """The columns and a line for each trial; without the learning rate where none is searched."""
    lines = [_cells(trial) for trial in trials]
    is_searched = any(RATE in trial.params for trial in trials)
    columns = [name for name in lines[0] if is_searched or name != "learning rate"]
    return columns, [[cells[name] for name in columns] for cells in lines]


def _cells(trial: Tried) -> dict[str, str]:
    """What the table shows of a trial, by column."""
    selected, test = trial.objective.metric, trial.objective.test_metric

    def shown(value: float, digits: str) -> str:
        return format(value, digits) if math.isfinite(value) else "-"

    return {
        "trial": str(trial.number),
        "lambda": shown(trial.params.get(LAM, math.nan), ".4g"),
        "learning rate": shown(trial.params.get(RATE, math.nan), ".4g"),
        selected.replace("val_", "validation_", 1).replace("_", " "): shown(trial.value, ".5g"),
        test.replace("_", " "): shown(
            trial.test.get(test, math.nan), ".4f" if "accuracy" in test else ".5g"
        ),
        "epochs": str(trial.epochs),
        "seconds": f"{trial.seconds:.1f}",
        "state": f"{trial.state}: {trial.error}" if trial.error else trial.state,
    }


def tested(trial: Tried) -> str:
    """The test metrics of a trial in words."""
    return ", ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in sorted(trial.test.items()))
