"""Trials of a search that are trained at once, in one stack of weights, with successive halving.

optuna proposes a batch of lambdas and one stack trains them. After `tune.warmup_epochs`, and after
twice as many each time, the worse half of the trials ends. A trial that has stopped early counts
with the value that it has stopped with. Each trial is told to optuna and recorded as if it had
been trained alone.

Source of successive halving: Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and
Hyperparameter Optimization", AISTATS 2016.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optuna

from l2keras_experiments.config import flattening, nodes
from l2keras_experiments.config.schema import Config, TuneConfig
from l2keras_experiments.runtime.outcome import describe
from l2keras_experiments.tracking.run import Run
from l2keras_experiments.tracking.store import FAILURE_TAG, Store
from l2keras_experiments.tuning import recording, search, space
from l2keras_experiments.tuning.search import Tried
from l2keras_experiments.tuning.space import DATA_LOSS, LAM, Objective

if TYPE_CHECKING:
    from l2keras_experiments.sweeps.vectorized.stacked_run import StackedRun
    from l2keras_experiments.sweeps.vectorized.trainer import GroupTrainer


def rungs(config: TuneConfig) -> list[int]:
    """The numbers of epochs after which the worse half of a batch ends."""
    found, epochs = [], max(1, config.tune.warmup_epochs)
    while config.tune.pruning and epochs < config.training.epochs:
        found.append(epochs)
        epochs *= 2
    return found


def can_be_stacked(config: TuneConfig) -> bool:
    """Whether the runs of trials can be trained at once, as far as their config shows."""
    from l2keras_experiments.sweeps.vectorized.trainer import group_key

    run = space.run_config(config, {LAM: config.tune.lam[0]}, config.seed)
    several = config.tune.batch_size != 1 and config.training.validation_freq == 1
    return several and group_key(run, flattening.flatten(nodes.to_node(run))) is not None


@dataclass
class _Trial:
    """A trial of a batch: its runs, and how far they have come.

    Attributes:
        runs: Its runs in the stack, one for each seed.
        objective: What is compared.
        values: The mean objective of the runs, one an epoch; inf or nan where one has diverged.
        is_pruned: Whether it ended at a rung, or has diverged.
    """

    trial: optuna.trial.Trial
    runs: Sequence[StackedRun]
    objective: Objective = DATA_LOSS
    values: list[float] = field(default_factory=list)
    is_pruned: bool = False

    @property
    def trains(self) -> bool:
        """Whether it has epochs left."""
        return any(stacked.trained.status == "running" for stacked in self.runs)

    @property
    def cost(self) -> float:
        return self.objective.cost(self.value)

    @property
    def value(self) -> float:
        """The objective now; that of a run that has ended belongs to the weights it ends with."""
        if self.is_pruned:
            return self.values[-1]
        last = [one.final if one.has_result else one.metrics(-1) for one in self.runs]
        return sum(metrics.get(self.objective.metric, math.nan) for metrics in last) / len(last)

    def prune(self) -> None:
        self.is_pruned = True
        for stacked in self.runs:
            stacked.prune()


@dataclass
class BatchTrainer:
    """Trains batches of trials, each run a child run of `parent`."""

    config: TuneConfig
    store: Store
    parent: Run
    device_name: str
    objective: Objective = DATA_LOSS
    _trainer: GroupTrainer | None = None  # of the batch before, with what it has compiled

    def train(self, study: optuna.Study, trials: Sequence[optuna.trial.Trial]) -> list[Tried]:
        """Trains the trials of a batch and tells optuna how they ended.

        Raises:
            NotVectorizedError, ValueError: the model has no stacked form; the trials are still
                running then.
            KeyboardInterrupt, Terminated: the trials are told as failed, and will run again.
        """
        seeds = range(self.config.seed, self.config.seed + self.config.tune.num_seeds)
        configs = [
            space.run_config(self.config, trial.params, seed) for trial in trials for seed in seeds
        ]
        trainer = self._prepared(configs)
        at_once = trainer.size // len(seeds)
        if at_once < min(2, len(trials)):
            raise ValueError(trainer.note)
        batch = [
            _Trial(trial, trainer.runs[i * len(seeds) : (i + 1) * len(seeds)], self.objective)
            for i, trial in enumerate(trials)
        ]
        for start in range(0, len(batch), at_once):
            self._attempt(study, trainer, batch[start : start + at_once])
        known = {trial.number: trial for trial in search.tried(study)}
        return [known[trial.number] for trial in trials]

    def _prepared(self, configs: Sequence[Config]) -> GroupTrainer:
        """The stack of the batch before where it has room: what it has compiled is of use again."""
        from l2keras_experiments.sweeps.vectorized.trainer import GroupTrainer

        if self._trainer is not None and len(configs) <= len(self._trainer.runs):
            self._trainer.replace_runs(configs)
            return self._trainer
        trainer = GroupTrainer(configs)
        trainer.rehearse()  # what cannot be stacked raises here: no run has been opened
        self._trainer = trainer
        return trainer

    def _attempt(self, study: optuna.Study, trainer: GroupTrainer, batch: list[_Trial]) -> None:
        """Trains as many trials as one stack takes and tells optuna how they ended."""
        try:
            self._train(trainer, batch)
        except Exception as error:
            for one in batch:
                one.trial.set_user_attr(search.ERROR, describe(error)[:200])
                study.tell(one.trial, state=optuna.trial.TrialState.FAIL)
        except BaseException:
            for one in batch:
                study.tell(one.trial, state=optuna.trial.TrialState.FAIL)
            raise
        else:
            for one in batch:
                _tell(study, one, rungs(self.config))

    def _train(self, trainer: GroupTrainer, batch: list[_Trial]) -> None:
        with ExitStack() as opened:
            runs = {
                stacked.trained.number: opened.enter_context(self._open(one, stacked.config))
                for one in batch
                for stacked in one.runs
            }
            for number, run in runs.items():
                stacked = trainer.runs[number]
                recording.begin(run, stacked.config, self.device_name, trainer.data(stacked))
                run.log_decay(trainer.audit(stacked))

            def log(number: int, epoch: int, metrics: dict[str, float]) -> None:
                runs[number].log_metrics(metrics, step=epoch)

            at = rungs(self.config)
            trainer.fit(list(runs), log, log, after_epoch=lambda: halve(batch, at))
            for one in batch:
                for stacked in one.runs:
                    self._record(runs[stacked.trained.number], trainer, stacked, one)

    def _open(self, one: _Trial, config: Config) -> Any:
        return recording.open_trial(self.store, self.parent, one.trial.number, config)

    def _record(self, run: Run, trainer: GroupTrainer, stacked: StackedRun, one: _Trial) -> None:
        if not math.isfinite(one.value):
            run.final_status = "FAILED"
            run.set_tags({FAILURE_TAG: f"Diverged: {self.objective.metric} is {one.value}"})
        elif one.is_pruned:
            recording.record_pruned(run, stacked.config)
        else:
            data = trainer.data(stacked)
            recording.end(run, stacked.config, stacked, trainer.steps_per_epoch, data)


def _tell(study: optuna.Study, one: _Trial, at: Collection[int]) -> None:
    """Tells optuna how a trial has ended and its objective where the worse half ended."""
    one.trial.set_user_attr(search.SECONDS, sum(stacked.seconds for stacked in one.runs))
    for epochs, value in enumerate(one.values, start=1):
        looked_at = epochs in at or epochs == len(one.values)  # to report takes a transaction
        if looked_at and math.isfinite(value):
            one.trial.report(value, epochs - 1)
    if not math.isfinite(one.value):
        study.tell(one.trial, one.objective.worst)
    elif one.is_pruned:
        study.tell(one.trial, state=optuna.trial.TrialState.PRUNED)
    else:
        search.keep_test(one.trial, [stacked.test for stacked in one.runs])
        study.tell(one.trial, one.value)


def halve(batch: Sequence[_Trial], at: Collection[int]) -> None:
    """Takes down an epoch; ends what has diverged and, after so many epochs, the worse half.

    Args:
        batch: Trials that train at once.
        at: The numbers of epochs after which the worse half of those not pruned ends.
    """
    for one in batch:
        if len(one.values) < max(stacked.epochs for stacked in one.runs):
            one.values.append(one.value)
            if not math.isfinite(one.value):
                one.prune()
    if max(len(one.values) for one in batch) not in at:
        return
    ranked = sorted((one for one in batch if not one.is_pruned), key=lambda one: one.cost)
    for one in ranked[math.ceil(len(ranked) / 2) :]:
        if one.trains:
            one.prune()
