"""A study over lambda and the learning rate, by optuna's ask and tell.

Knows neither Hydra nor MLflow. A study is resumed by opening it again: what a trial proposes
depends on the seed and the trials before it, not on when the process was started, so that a
study that was killed ends like one that was not.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.trial import TrialState

from l2keras_experiments.config.paths import RUNS
from l2keras_experiments.config.schema import ConfigError, TuneConfig
from l2keras_experiments.runtime.outcome import describe
from l2keras_experiments.sweeps import identity
from l2keras_experiments.tuning.space import DATA_LOSS, LAM, RATE, SQLITE, Objective, rounded

# Attributes of a trial in optuna's database. A failed trial without an error was killed.
_RETRY_OF = "retry_of"
ERROR = "error"
_METRIC = "metric"  # of the study
_TEST = "test"
SECONDS = "seconds"  # of training, where it took turns with that of others


class Diverged(ArithmeticError):
    """The validation loss is no longer finite."""


@dataclass(frozen=True)
class Tried:
    """One trial, as tables and figures show it.

    Attributes:
        params: Config keys to the values tried.
        value: The objective; of a pruned trial at its last epoch; infinitely bad where it
            diverged; nan where there is none.
        state: "complete", "pruned", "diverged", "failed", "killed" or "running".
        epochs: Epochs of the first seed that were trained.
        seconds: Its wall time; of trials trained at once, the share of each.
        error: Why it failed, else "".
        test: Metrics on the test examples, mean over the seeds. They decide nothing; a trial that
            was not completed has none.
        objective: What `value` is a value of.
    """

    number: int
    params: dict[str, float]
    value: float
    state: str
    epochs: int
    seconds: float
    error: str
    test: dict[str, float] = field(default_factory=dict)
    objective: Objective = DATA_LOSS

    @property
    def cost(self) -> float:
        """The value, negative where higher is better."""
        return self.objective.cost(self.value)


def storage_folder(url: str) -> Path:
    """Where the files beside a study go: beside a sqlite database, else in runs/."""
    return Path(url.removeprefix(SQLITE)).parent if url.startswith(SQLITE) else RUNS


@contextmanager
def locked(url: str, name: str) -> Iterator[None]:
    """One process of this machine at a time; the claim of a killed one is free again.

    Raises:
        ConfigError: another process is at work on the study, or there is no place for a claim.
    """
    folder = storage_folder(url) / "state"
    with _removed_after_a_mistake(folder), ExitStack() as stack:
        try:
            stack.enter_context(identity.claim(folder, f"tune-{name}", 0))
        except identity.Busy:
            raise ConfigError(
                f"Another process is tuning study {name}. Wait for it, or stop it and launch this "
                "again to go on from there; for a study beside it set another tracking.study."
            ) from None
        except OSError as error:
            raise ConfigError(
                f"`tune.storage` must be where this user may write. Received: {error}."
            ) from None
        yield


@contextmanager
def _removed_after_a_mistake(folder: Path) -> Iterator[None]:
    """Removes a folder that the block makes, and its parent, if the block ends in a ConfigError."""
    new = [path for path in (folder, folder.parent) if not path.exists()]
    try:
        yield
    except ConfigError:
        for path in new:
            with suppress(OSError):  # not there, or not empty
                path.rmdir()
        raise


def open_study(
    url: str, name: str, config: TuneConfig, objective: Objective = DATA_LOSS
) -> optuna.Study:
    """The study of this name, new or with the trials that it has.

    Raises:
        ConfigError: the database cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if config.tune.pruning:
        pruner = optuna.pruners.MedianPruner(n_warmup_steps=config.tune.warmup_epochs)
    try:
        # Two studies at once must not both create the database.
        with identity.claim(storage_folder(url) / "state", "optuna", patience=60):
            storage = optuna.storages.RDBStorage(url)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            load_if_exists=True,
            pruner=pruner,
            direction="maximize" if objective.higher_is_better else "minimize",
        )
        study.set_user_attr(_METRIC, objective.metric)
        return study
    except Exception as error:  # of SQLAlchemy, of any driver, of optuna
        why = describe(error).rstrip(".")
        raise ConfigError(
            "`tune.storage` must be a database that optuna can open. "
            f"Received: {why}. "
            "For PostgreSQL pass postgresql+psycopg2://user@host/database and install psycopg2."
        ) from error


def objective_of(study: optuna.Study) -> Objective:
    """The metric that a study improves."""
    grows = study.direction is optuna.study.StudyDirection.MAXIMIZE
    return Objective(study.user_attrs.get(_METRIC, DATA_LOSS.metric), grows)


def recover(study: optuna.Study) -> None:
    """Marks trials whose process is gone as failed, and queues each killed trial once more.

    To be called under `locked`, where no other process can be running one.
    """
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get(_RETRY_OF) for trial in trials}
    for trial in trials:
        if _killed(trial) and trial.params and trial.number not in retried:
            study.enqueue_trial(trial.params, user_attrs={_RETRY_OF: trial.number})


def _killed(trial: optuna.trial.FrozenTrial) -> bool:
    return trial.state is TrialState.FAIL and ERROR not in trial.user_attrs


def ask(study: optuna.Study, config: TuneConfig) -> optuna.trial.Trial:
    """The next trial, its lambda and learning rate drawn."""
    trials = study.get_trials(deepcopy=False)
    counted = sum(t.state.is_finished() and not _killed(t) for t in trials)
    running = sum(t.state is TrialState.RUNNING for t in trials)  # of the same batch
    words = f"{config.seed} {counted}" + (f" {running}" if running else "")
    seed = random.Random(words).getrandbits(32)
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    trial = study.ask()
    trial.suggest_float(LAM, *config.tune.lam, log=True)
    if config.tune.learning_rate:
        trial.suggest_float(RATE, *config.tune.learning_rate, log=True)
    return trial


def watch(trial: optuna.trial.Trial, epoch: int, value: float, *, prune: bool = True) -> None:
    """Looks at the objective after an epoch, and reports it unless not to `prune`.

    Raises:
        Diverged: it is not finite.
        optuna.TrialPruned: it is worse than that of most trials after this epoch.
    """
    if not math.isfinite(value):
        metric = objective_of(trial.study).metric
        raise Diverged(f"{metric} is {value} after epoch {epoch + 1}")
    if prune:
        trial.report(value, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned


def keep_test(trial: optuna.trial.Trial, runs: Sequence[Mapping[str, float]]) -> None:
    """Keeps the mean of the test metrics of a trial's runs beside its value."""
    means = {key: sum(run[key] for run in runs) / len(runs) for key in runs[0]}
    trial.set_user_attr(_TEST, {k: v for k, v in means.items() if math.isfinite(v)})


def attempt(
    study: optuna.Study, trial: optuna.trial.Trial, objective: Callable[[optuna.trial.Trial], float]
) -> Tried:
    """Runs the objective and tells how it ended; no error of it ends the study.

    A diverged trial counts as infinitely bad, so that the search turns away from where it was.
    """
    try:
        value = objective(trial)
        study.tell(trial, value if math.isfinite(value) else objective_of(study).worst)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except Diverged:
        study.tell(trial, objective_of(study).worst)
    except Exception as error:
        trial.set_user_attr(ERROR, describe(error)[:200])
        study.tell(trial, state=TrialState.FAIL)
    except BaseException:  # Ctrl-C, SIGTERM, sys.exit
        study.tell(trial, state=TrialState.FAIL)
        raise
    return _tried(study.get_trials(deepcopy=False)[trial.number], objective_of(study))


def tried(study: optuna.Study) -> list[Tried]:
    """Every trial that was started, in order."""
    objective, waiting = objective_of(study), TrialState.WAITING
    trials = study.get_trials(deepcopy=False)
    return [_tried(trial, objective) for trial in trials if trial.state is not waiting]


def _tried(trial: optuna.trial.FrozenTrial, objective: Objective) -> Tried:
    value = math.nan if trial.values is None else float(trial.values[0])
    states = {
        TrialState.COMPLETE: "complete" if math.isfinite(value) else "diverged",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "killed" if _killed(trial) else "failed",
    }
    return Tried(
        number=trial.number,
        params=rounded(trial.params),
        value=value,
        state=states.get(trial.state, "running"),
        epochs=max(trial.intermediate_values, default=-1) + 1,
        seconds=float(
            trial.user_attrs.get(SECONDS, trial.duration and trial.duration.total_seconds())
            or math.nan
        ),
        error=str(trial.user_attrs.get(ERROR, "")),
        test=dict(trial.user_attrs.get(_TEST, {})),
        objective=objective,
    )


def num_done(trials: Sequence[Tried]) -> int:
    """How many trials count towards `tune.num_trials`; failed and killed ones run again."""
    return sum(trial.state in ("complete", "pruned", "diverged") for trial in trials)


def best(trials: Sequence[Tried]) -> Tried | None:
    """The completed trial of the best value."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return min(complete, key=lambda trial: trial.cost, default=None)
