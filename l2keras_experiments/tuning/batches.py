"""Trials of a search that are trained at once, in one stack of weights, with successive halving.

optuna proposes a batch of lambdas and one stack trains them. After `tune.warmup_epochs`, and after
twice as many each time, the worse half of the trials ends. Each trial is told to optuna and
recorded as if it had been trained alone.

Source of successive halving: Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and
Hyperparameter Optimization", AISTATS 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optuna

from l2keras_experiments.config import flattening, nodes
from l2keras_experiments.config.schema import Config, TuneConfig
from l2keras_experiments.runtime.outcome import describe
from l2keras_experiments.tracking.store import FAILURE_TAG
from l2keras_experiments.tuning import recording, search, space
from l2keras_experiments.tuning.search import Tried
from l2keras_experiments.tuning.space import LAM, OBJECTIVE

if TYPE_CHECKING:
    from l2keras_experiments.sweeps.vectorized.trainer import Together
    from l2keras_experiments.tracking.run import Run
    from l2keras_experiments.tracking.store import Store


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
        numbers: Of its runs in the stack, one for each seed.
        values: The mean objective of the runs, one an epoch; inf where one has diverged.
        is_over: Whether it was pruned or has diverged.
    """

    trial: optuna.trial.Trial
    numbers: list[int]
    values: list[float] = field(default_factory=list)
    is_over: bool = False


@dataclass(frozen=True)
class BatchTrainer:
    """Trains batches of trials, each run a child run of `parent`."""

    config: TuneConfig
    store: Store
    parent: Run
    device_name: str

    def train(self, study: optuna.Study, trials: Sequence[optuna.trial.Trial]) -> list[Tried]:
        """Trains the trials of a batch and tells optuna how they ended.

        Raises:
            NotVectorizedError, ValueError: the model has no stacked form; the trials are still
                running then.
            KeyboardInterrupt, Terminated: the trials are told as failed, and will run again.
        """
        from l2keras_experiments.sweeps.vectorized.trainer import Together

        seeds = range(self.config.seed, self.config.seed + self.config.tune.num_seeds)
        configs = [
            space.run_config(self.config, trial.params, seed) for trial in trials for seed in seeds
        ]
        together = Together(configs)
        together.rehearse()  # what cannot be stacked raises here: no run has been opened
        batch = [
            _Trial(trial, list(range(i * len(seeds), (i + 1) * len(seeds))))
            for i, trial in enumerate(trials)
        ]
        try:
            self._train(together, configs, batch)
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
                self._tell(study, one, together)
        known = {trial.number: trial for trial in search.tried(study)}
        return [known[trial.number] for trial in trials]

    def _train(self, together: Together, configs: Sequence[Config], batch: list[_Trial]) -> None:
        with ExitStack() as opened:
            runs = [
                opened.enter_context(self._open(one, configs[number]))
                for one in batch
                for number in one.numbers
            ]
            for number, run in enumerate(runs):
                data = together.data(together.runners[number])
                recording.begin(run, configs[number], self.device_name, data)
                run.log_decay(together.audit(together.runners[number]))
            halving = _Halving(batch, rungs(self.config), together)
            chunk = list(range(len(configs)))

            def on_epoch(number: int, epoch: int, metrics: dict[str, float]) -> None:
                if not halving.is_over(number):
                    runs[number].log_metrics(metrics, step=epoch)
                    halving.observe(number, metrics[OBJECTIVE])

            together.fit(chunk, on_epoch)
            for one in batch:
                for number in one.numbers:
                    self._record(
                        runs[number], configs[number], together, number, one.is_over, one.values[-1]
                    )

    def _open(self, one: _Trial, config: Config) -> Any:
        return recording.open_trial(self.store, self.parent, one.trial.number, config)

    def _record(
        self,
        run: Run,
        config: Config,
        together: Together,
        number: int,
        is_over: bool,
        value: float,
    ) -> None:
        if is_over and not math.isfinite(value):
            run.final_status = "FAILED"
            run.set_tags({FAILURE_TAG: f"Diverged: {OBJECTIVE} is {value}"})
        elif is_over:
            recording.record_pruned(run, config)
        else:
            runner = together.runners[number]
            recording.end(run, config, runner, together.steps_per_epoch, together.data(runner))

    def _tell(self, study: optuna.Study, one: _Trial, together: Together) -> None:
        trial, last = one.trial, one.values[-1]
        for epoch, value in enumerate(one.values):
            if math.isfinite(value):
                trial.report(value, epoch)
        if one.is_over and math.isfinite(last):
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return
        if math.isfinite(last):
            search.keep_test(trial, [together.runners[number].test for number in one.numbers])
        study.tell(trial, last if math.isfinite(last) else math.inf)


class _Halving:
    """Ends the worse half of the trials at each rung, once all have come so far."""

    def __init__(self, batch: Sequence[_Trial], at: Sequence[int], together: Together) -> None:
        self._batch, self._at, self._together = batch, set(at), together
        self._of = {number: one for one in batch for number in one.numbers}
        self._seen: dict[int, float] = {}  # the values of the present epoch, by run

    def is_over(self, number: int) -> bool:
        return self._of[number].is_over

    def observe(self, number: int, value: float) -> None:
        """Takes the objective of a run after an epoch; after the last run's, ends trials."""
        self._seen[number] = value
        active = [one for one in self._batch if not one.is_over]
        if any(other not in self._seen for one in active for other in one.numbers):
            return
        for one in active:
            one.values.append(sum(self._seen[other] for other in one.numbers) / len(one.numbers))
            if not math.isfinite(one.values[-1]):
                self._end(one)
        self._seen.clear()
        left = [one for one in active if not one.is_over]
        if left and len(left[0].values) in self._at:
            ranked = sorted(left, key=lambda one: one.values[-1])
            for one in ranked[math.ceil(len(ranked) / 2) :]:
                self._end(one)

    def _end(self, one: _Trial) -> None:
        one.is_over = True
        for number in one.numbers:
            self._together.stop(number)
