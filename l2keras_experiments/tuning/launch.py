"""Searches lambda, and the learning rate if asked, for the best value of the selection's metric.

Launched again it goes on with the same study. It ends with a preset for experiments.train.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna
from omegaconf import DictConfig

from l2keras_experiments.commands import validation
from l2keras_experiments.config import credentials, nodes
from l2keras_experiments.config.schema import ConfigError, TuneConfig
from l2keras_experiments.data.streams import load_any
from l2keras_experiments.reports import views
from l2keras_experiments.runtime import device, progress, signals
from l2keras_experiments.runtime.outcome import describe
from l2keras_experiments.tracking.recording import record_trial
from l2keras_experiments.tracking.run import Run
from l2keras_experiments.tracking.store import Store, store_uri, ui_command
from l2keras_experiments.tuning import presets, recording, search, space
from l2keras_experiments.tuning.search import Tried
from l2keras_experiments.tuning.space import DATA_LOSS, LAM, RATE, SQLITE, Objective

if TYPE_CHECKING:
    from l2keras_experiments.training.trial import TrialResult


# Columns of the UI beside method, lambda and the objective.
BESIDE = ("tags.val_accuracy", "tags.pruned", "params.optimizer.learning_rate")


def tune(node: DictConfig) -> float:
    """Searches, records, writes the preset and prints both; returns the best value."""
    config: TuneConfig = validation.typed(node)
    space.check_tuning(config)
    presets.check_preset(config)
    name, url, objective = space.study_name(config), storage_url(config), space.objective(config)
    with search.locked(url, name):
        study = search.open_study(url, name, config, objective)
        search.recover(study)
        device_name = _rehearse(study, config)
        store = Store(config.tracking.uri, config.tracking.study)
        with recording.parent_run(store, node, config, name) as parent:
            recording.kill_orphans(store, parent)
            try:
                if device_name is not None:
                    search_on(study, config, store, parent, device_name)
            except (KeyboardInterrupt, signals.Terminated):
                print("stopped: the same command goes on from here", file=sys.stderr)
                raise
            trials = search.tried(study)
            best = best_of(trials)
            path = presets.write_preset(config, name, trials, best)
            recording.record_summary(parent, trials, best, path)
            selection = (objective.metric, objective.higher_is_better)
            accuracy = ["val_accuracy"] if "test_accuracy" in best.test else []
            shown = views.of_runs(parent.id, name, selection, BESIDE, charted=accuracy)
            views.save(store, parent.id, shown)
    show(config, name, trials, best)
    print(f"preset: {path}")
    print(f"train with it: {presets.command(config)}")
    print(f"study {store.study!r} of {store.uri}")
    print(f"MLflow UI: {ui_command(store.uri)}")
    views.show(store, parent.id)
    return best.value


def storage_url(config: TuneConfig) -> str:
    """Where optuna keeps the study: as configured, else a file beside the MLflow store."""
    if config.tune.storage:
        return credentials.revealed(config.tune.storage)
    store = store_uri(config.tracking.uri)
    return f"{SQLITE}{search.storage_folder(store) / 'optuna.db'}"


def _left(study: optuna.Study, config: TuneConfig) -> int:
    return config.tune.num_trials - search.num_done(search.tried(study))


def _rehearse(study: optuna.Study, config: TuneConfig) -> str | None:
    """Builds what a trial trains; returns the name of the device, None where no trial is left.

    Raises:
        ConfigError: the data or the model shows a mistake.
    """
    if _left(study, config) <= 0:
        return None
    print("loading the backend ...", file=sys.stderr)
    device_name = device.set_up(config)
    from l2keras_experiments.training.trial import rehearse

    rehearse(space.run_config(config, {LAM: config.tune.lam[0]}, config.seed))
    return device_name


def search_on(
    study: optuna.Study, config: TuneConfig, store: Store, parent: Run, device_name: str
) -> None:
    """Runs the trials that are left, until all are done or the time is over."""
    left = _left(study, config)
    train = _trainer(study, config, store, parent, device_name)
    start = time.monotonic()
    live = sys.stderr.isatty()  # elsewhere there is a line for each trial
    metric, shown = search.objective_of(study).metric, config.training.progress and live
    with progress.bar(left, "tuning", shown, metric) as advance:

        def show_trial(trial: Tried, trials: Sequence[Tried]) -> None:
            best = recording.record_progress(parent, trial, trials)
            advance({metric: best}, label=f"trial {trial.number} {trial.state}, best")
            if not live:
                done = f"{search.num_done(trials)}/{config.tune.num_trials}"
                shown_best = f"; best {best:.4g}" if math.isfinite(best) else ""
                print(f"{done} {line(trial)}{shown_best}", file=sys.stderr, flush=True)

        while left > 0:
            if config.tune.timeout and time.monotonic() - start > config.tune.timeout:
                print(f"tune.timeout={config.tune.timeout:g} s is over", file=sys.stderr)
                break
            done = train(left)
            left -= len(done)
            over = search.tried(study)
            for i, trial in enumerate(done):
                later = {one.number for one in done[i + 1 :]}
                show_trial(trial, [one for one in over if one.number not in later])


def _trainer(
    study: optuna.Study, config: TuneConfig, store: Store, parent: Run, device_name: str
) -> Callable[[int], list[Tried]]:
    """Trains one trial or one batch of at most so many, and returns how they ended."""
    from l2keras_experiments.tuning.batches import BatchTrainer, can_be_stacked

    about = config, store, parent, device_name, search.objective_of(study)
    alone = Trainer(*about)
    stacked = BatchTrainer(*about) if can_be_stacked(config) else None

    def train(most: int) -> list[Tried]:
        nonlocal stacked
        asked = [search.ask(study, config)]
        if stacked is not None:
            asked += [
                search.ask(study, config) for _ in range(min(most, config.tune.batch_size) - 1)
            ]
            try:
                return stacked.train(study, asked)
            except ValueError as error:  # no stacked form, or none that fits
                stacked = None
                print(f"trials are trained one by one: {describe(error)}", file=sys.stderr)
        return [search.attempt(study, trial, alone.train) for trial in asked]

    return train


@dataclass(frozen=True)
class Trainer:
    """Trains the runs of a trial, each a child run of `parent`."""

    config: TuneConfig
    store: Store
    parent: Run
    device_name: str
    objective: Objective = DATA_LOSS

    def train(self, trial: optuna.trial.Trial) -> float:
        """One run a seed; returns the mean of their last objectives.

        Only the first seed may be pruned: its epochs are what all trials have in common.
        """
        results = []
        for seed in range(self.config.seed, self.config.seed + self.config.tune.num_seeds):
            result = self._run(trial, seed)
            if result is None:
                raise optuna.TrialPruned
            results.append(result)
        search.keep_test(trial, [result.test for result in results])
        metric = self.objective.metric
        return sum(result.history[metric][-1] for result in results) / len(results)

    def _run(self, trial: optuna.trial.Trial, seed: int) -> TrialResult | None:
        """Trains one run; None if it was pruned. That is no failure: FINISHED."""

        config = space.run_config(self.config, trial.params, seed)
        data = load_any(config.data, seed, config.training.dtype.value)
        epochs = itertools.count()

        def on_epoch(metrics: dict[str, float], **_: object) -> None:
            first, epoch = seed == self.config.seed, next(epochs)
            value = metrics.get(self.objective.metric)
            if value is not None:  # not every epoch has to be validated
                search.watch(trial, epoch, value, prune=first)

        with recording.open_trial(self.store, self.parent, trial.number, config) as run:
            node = nodes.to_node(config)
            try:
                return record_trial(run, node, config, data, self.device_name, on_epoch)
            except optuna.TrialPruned:
                recording.record_pruned(run, config)
                return None


def best_of(trials: Sequence[Tried]) -> Tried:
    """The best trial.

    Raises:
        ConfigError: no trial was completed.
    """
    best = search.best(trials)
    if best is None:
        states = Counter(trial.state for trial in trials)
        counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        why = next((trial.error for trial in reversed(trials) if trial.error), "")
        raise ConfigError(
            f"No trial was completed, so there is no best one. Received: {counts or 'no trial'}"
            f"{f', the last failed with {why}' if why else ''}. Choose a smaller "
            "optimizer.learning_rate or other ranges; the same command tries what failed again."
        )
    return best


def line(trial: Tried) -> str:
    """A trial in the log."""
    params = " ".join(
        f"{key.rpartition('.')[2]}={value:.4g}" for key, value in trial.params.items()
    )
    state = f"{trial.state} ({trial.error})" if trial.error else trial.state
    return f"trial {trial.number} {params}: {trial.objective.metric}={trial.value:.4g} {state}"


def show(config: TuneConfig, name: str, trials: Sequence[Tried], best: Tried) -> None:
    """The table, best first, and what it means, in the terminal."""

    states = dict.fromkeys(["complete", "pruned", *(trial.state for trial in trials)])
    ranked = sorted(trials, key=lambda trial: trial.cost)
    columns, rows = recording.table(ranked)
    lines = list(zip(ranked, rows, strict=True))
    groups = [[row for trial, row in lines if trial.state == state] for state in states]
    progress.print_table(f"study {name}", columns, groups, columns)
    print(f"best: {line(best)}")
    if best.test:
        print(f"on the test examples, which selected nothing: {recording.tested(best)}")
    for key, limits in ((LAM, config.tune.lam), (RATE, config.tune.learning_rate)):
        if limits and (end := edge(best.params[key], limits)):
            print(f"it is at the {end} end of the range of {key}, {limits}: try a wider one")


def edge(value: float, limits: Sequence[float]) -> str:
    """The end, lower or upper, that a value is within a twentieth of, on the log scale."""
    low, high = (math.log(limit) for limit in limits)
    place = (math.log(value) - low) / (high - low)
    return "lower" if place < 0.05 else "upper" if place > 0.95 else ""
