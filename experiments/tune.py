"""Searches lambda, and the learning rate if asked, for the lowest validation loss without penalty.

    python -m experiments.tune [overrides]

Launched again it goes on with the same study. It ends with a preset for experiments.train.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import hydra
import optuna
from omegaconf import DictConfig, OmegaConf

from experiments import cli, credentials, presets, search, signals, tracking, tuning, tuning_runs
from experiments.paths import CONFIGS
from experiments.schema import ConfigError, TuneConfig
from experiments.search import Tried
from experiments.tuning import LAM, OBJECTIVE, RATE, SQLITE

if TYPE_CHECKING:
    from experiments.run import Run
    from experiments.tracking import Store


def tune(node: DictConfig) -> float:
    """Searches, records, writes the preset and prints both; returns the best value."""
    config: TuneConfig = cli.typed(node)
    tuning.check_tuning(config)
    presets.check_preset(config)
    name, url = tuning.study_name(config), storage_url(config)
    with search.locked(url, name):
        study = search.open_study(url, name, config)
        search.recover(study)
        store = tracking.Store(config.tracking.uri, config.tracking.study)
        with tuning_runs.parent_run(store, node, config, name) as parent:
            tuning_runs.kill_orphans(store, parent)
            try:
                search_on(study, config, store, parent)
            except (KeyboardInterrupt, signals.Terminated):
                print("stopped: the same command goes on from here", file=sys.stderr)
                raise
            trials = search.tried(study)
            best = best_of(trials)
            path = presets.write_preset(config, name, trials, best)
            tuning_runs.record_summary(parent, trials, best, path)
    show(config, name, trials, best)
    print(f"preset: {path}")
    print(f"train with it: {presets.command(config)}")
    print(f"MLflow UI: {tracking.ui_command(store.uri)}  (study {config.tracking.study!r})")
    return best.value


def storage_url(config: TuneConfig) -> str:
    """Where optuna keeps the study: as configured, else a file beside the MLflow store."""
    if config.tune.storage:
        return credentials.revealed(config.tune.storage)
    store = tracking.store_uri(config.tracking.uri)
    return f"{SQLITE}{search.storage_folder(store) / 'optuna.db'}"


def search_on(study: optuna.Study, config: TuneConfig, store: Store, parent: Run) -> None:
    """Runs the trials that are left, until all are done or the time is over."""
    left = config.tune.num_trials - search.num_done(search.tried(study))
    if left <= 0:
        return
    print("loading the backend ...", file=sys.stderr)
    from experiments import device, progress

    trainer = Trainer(config, store, parent, device.set_up(config))
    start = time.monotonic()
    live = sys.stderr.isatty()  # elsewhere there is a line for each trial
    with progress.bar(left, "tuning", config.training.progress and live) as advance:
        for _ in range(left):
            if config.tune.timeout and time.monotonic() - start > config.tune.timeout:
                print(f"tune.timeout={config.tune.timeout:g} s is over", file=sys.stderr)
                break
            trial = search.attempt(study, search.ask(study, config), trainer.train)
            trials = search.tried(study)
            best = tuning_runs.record_progress(parent, trial, trials)
            advance({OBJECTIVE: best}, label=f"trial {trial.number} {trial.state}, best")
            if not live:
                done = f"{search.num_done(trials)}/{config.tune.num_trials}"
                print(f"{done} {line(trial)}; best {best:.4g}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Trainer:
    """Trains the runs of a trial, each a child run of `parent`."""

    config: TuneConfig
    store: Store
    parent: Run
    device_name: str

    def train(self, trial: optuna.trial.Trial) -> float:
        """One run a seed; returns the mean of their last objectives.

        Only the first seed may be pruned: its epochs are what all trials have in common.
        """
        losses = []
        for seed in range(self.config.seed, self.config.seed + self.config.tune.num_seeds):
            loss = self._run(trial, seed)
            if loss is None:
                raise optuna.TrialPruned
            losses.append(loss)
        return sum(losses) / len(losses)

    def _run(self, trial: optuna.trial.Trial, seed: int) -> float | None:
        """The last objective of one run; None if it was pruned. That is no failure: FINISHED."""
        from experiments.data import load_data
        from experiments.train import record_trial

        config = tuning.run_config(self.config, trial.params, seed)
        data = load_data(config.data, seed, config.training.dtype.value)
        epochs = itertools.count()

        def on_epoch(metrics: dict[str, float], **_: object) -> None:
            first = seed == self.config.seed
            search.watch(trial, next(epochs), metrics[OBJECTIVE], prune=first)

        label = f"trial {trial.number} lam={trial.params[LAM]:.4g} seed={seed}"
        tags = {"trial": str(trial.number)}
        with self.store.run(label, parent=self.parent.id, tags=tags) as run:
            node = OmegaConf.structured(config)
            try:
                result = record_trial(run, node, config, data, self.device_name, on_epoch)
            except optuna.TrialPruned:
                tuning_runs.record_pruned(run, config)
                return None
        return result.history[OBJECTIVE][-1]


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
    return f"trial {trial.number} {params}: {OBJECTIVE}={trial.value:.4g} {state}"


def show(config: TuneConfig, name: str, trials: Sequence[Tried], best: Tried) -> None:
    """The table, best first, and what it means, in the terminal."""
    from experiments import progress

    states = dict.fromkeys(["complete", "pruned", *(trial.state for trial in trials)])
    ranked = sorted(trials, key=lambda trial: trial.value)
    groups = [[tuning_runs.row(t) for t in ranked if t.state == state] for state in states]
    progress.print_table(f"study {name}", tuning_runs.COLUMNS, groups)
    print(f"best: {line(best)}")
    for key, limits in ((LAM, config.tune.lam), (RATE, config.tune.learning_rate)):
        if limits and (end := edge(best.params[key], limits)):
            print(f"it is at the {end} end of the range of {key}, {limits}: try a wider one")


def edge(value: float, limits: Sequence[float]) -> str:
    """The end, lower or upper, that a value is within a twentieth of, on the log scale."""
    low, high = (math.log(limit) for limit in limits)
    place = (math.log(value) - low) / (high - low)
    return "lower" if place < 0.05 else "upper" if place > 0.95 else ""


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="tune")
def _main(node: DictConfig) -> Any:
    return cli.task(tune, node)


if __name__ == "__main__":
    cli.run(_main, TuneConfig, "tune", tuning.check_tuning, presets.check_preset)
