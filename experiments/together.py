"""Training runs that differ in lambda, seed and learning rate only, trained at once.

What `experiments.trial` is for one run, for many: configs in, numbers and weights out. Knows
neither Hydra nor MLflow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from experiments import checkpoint, pipeline
from experiments.data import Dataset
from experiments.datasets import Datasets
from experiments.models import build_model
from experiments.optimizers import build_optimizer, build_schedule
from experiments.regularization import Method, build_method
from experiments.schema import Config, Distribute, MixedPrecision
from experiments.trial import compiled_model, data_loss, metrics_of
from l2keras import AuditReport, audit, masks
from l2keras._sweep import stacking
from l2keras._sweep.group import Group
from l2keras._sweep.members import Member, State
from l2keras._sweep.template import Template
from l2keras._sweep.training import Plan, Trained, train

# How each method acts on the stacked weights. Keras' own L2 and weight_decay are not among them:
# who asks for those wants to see what Keras' code does.
_COUPLINGS = {
    "none": "penalty",
    "half_l2": "penalty",
    "coupled": "coupled",
    "decoupled": "decoupled",
    "independent": "independent",
}
CHECKPOINT_SECONDS = 10.0  # of all runs of a group it takes longer than of one
_FREE = {"regularization.name", "regularization.lam", "seed", "optimizer.learning_rate"}


def group_key(config: Config, flat: dict[str, Any]) -> Hashable | None:
    """Equal for runs that can be trained at once; None for one that cannot be with any other."""
    alone = (
        config.regularization.name not in _COUPLINGS,
        config.optimizer.clipnorm is not None,
        config.optimizer.global_clipnorm is not None,
        config.training.jit,
        config.training.mixed_precision is MixedPrecision.float16,
        config.distribute is Distribute.mirrored,
    )
    if any(alone):
        return None
    return tuple(sorted((key, str(value)) for key, value in flat.items() if key not in _FREE))


@dataclass
class Runner:
    """One run among those that are trained at once.

    Attributes:
        history: For each metric its values, one an epoch.
        checkpoint_path: Where its state is kept now and then, or None.
    """

    config: Config
    method: Method
    trained: Trained
    history: dict[str, list[float]]
    checkpoint_path: Path | None = None

    @property
    def epochs(self) -> int:
        return len(self.trained.history)

    def resume(self) -> None:
        """Takes up the state that is kept, if there is one."""
        found = checkpoint.read(self.checkpoint_path) if self.checkpoint_path else None
        if found is None:
            return
        arrays, progress = found
        state = self.trained.state
        ends = len(state.trainable), len(state.trainable) + len(state.other)
        self.trained.state = State(arrays[: ends[0]], arrays[ends[0] : ends[1]], arrays[ends[1] :])
        self.history = progress.history
        self.trained.history = [{} for _ in range(progress.epochs)]

    def keep(self, state: State) -> None:
        """Writes the state after the last epoch."""
        if self.checkpoint_path is not None:
            arrays = [*state.trainable, *state.other, *state.optimizer]
            checkpoint.write(self.checkpoint_path, arrays, checkpoint.Progress(self.history, 0.0))


OnEpoch = Callable[[int, int, dict[str, float]], None]  # (runner, epoch, metrics)


class Together:
    """Runs with one `group_key`.

    Args:
        configs: Of the runs.

    Raises:
        NotVectorizedError: when training begins, for a model that has no stacked form.
    """

    def __init__(self, configs: Sequence[Config]) -> None:
        first = configs[0]
        self._config = first
        self._datasets = Datasets(configs)
        data = self._datasets.of(first)
        self.steps_per_epoch = pipeline.steps_per_epoch(
            len(data.x_train), first.training.batch_size
        )
        self._num_steps = first.training.epochs * self.steps_per_epoch
        keras.utils.clear_session(free_memory=False)
        self._template = _SeededTemplate(first, data)
        stacking.check_model(self._template.model)
        decays_all = first.regularization.decay_all
        decayed = {id(v) for v in masks.select(self._template.model, "*" if decays_all else None)}
        self._decayed = [id(variable) in decayed for variable in self._template.trainable]
        counted = {id(v) for v in masks.select(self._template.model)}
        self._counted = [id(variable) in counted for variable in self._template.trainable]
        initial = {seed: self._template.initial(seed) for seed in {c.seed for c in configs}}
        self._schedules: dict[str, Any] = {}
        self.runners = [
            self._runner(number, config, State(*initial[config.seed]))
            for number, config in enumerate(configs)
        ]
        self.size = self._group_size()
        self._reports: dict[str, AuditReport] = {}
        self._groups: dict[int, Group] = {}
        self._rates: dict[tuple[float, int], float] = {}
        self._kept_epoch, self._kept_at = -1, time.monotonic()

    def _runner(self, number: int, config: Config, state: State) -> Runner:
        method = build_method(config.regularization, config.optimizer.learning_rate)
        name, peak = config.regularization.name, config.optimizer.learning_rate
        independent = name == "independent"
        schedules, key = self._schedules, repr(config.optimizer)  # runs share a schedule's steps
        if key not in schedules:
            schedules[key] = build_schedule(config.optimizer, self._num_steps)
        member = Member(
            lam=config.regularization.lam if independent else method.effective_lam,
            seed=config.seed,
            learning_rate=schedules[key],
            coupling=_COUPLINGS[name],
            peak=peak if independent else 1.0,
        )
        return Runner(config, method, Trained(number, member, state), {})

    def _group_size(self) -> int:
        batch_size = self._config.training.batch_size
        size, _ = stacking.group_size(
            self._template.model, self._optimizer(), len(self.runners), batch_size, None
        )
        return size

    def _optimizer(self) -> Any:
        steps = self._config.training.gradient_accumulation_steps
        return build_optimizer(
            self._config.optimizer, self._num_steps, gradient_accumulation_steps=steps
        )

    def audit(self, runner: Runner) -> AuditReport:
        """What is decayed in a run, as audited on a model of its own; the seed decides nothing."""
        key = repr((runner.config.regularization, runner.config.optimizer))
        if key not in self._reports:
            model = self.model(runner, trained=False)
            self._reports[key] = audit(model, runner.method.callbacks)
        return self._reports[key]

    def model(self, runner: Runner, *, trained: bool = True) -> Any:
        """The model of a run, compiled as it is when it is trained alone."""
        data = self._datasets.of(runner.config)
        model = compiled_model(runner.config, data, runner.method, self._num_steps)
        if trained:
            state = runner.trained.state
            _give(model, state)
        return model

    def chunks(self) -> list[list[int]]:
        """The numbers of the runs that are trained at once; runs of one seed share batches."""
        ordered = sorted(range(len(self.runners)), key=lambda i: self.runners[i].config.seed)
        return [ordered[i : i + self.size] for i in range(0, len(ordered), self.size)]

    def fit(self, numbers: Sequence[int], on_epoch: OnEpoch) -> float:
        """Trains the runs of a chunk.

        Args:
            numbers: Of the runs.
            on_epoch: Called with the number of the run, the epoch and its metrics.

        Returns:
            Seconds of wall time, compilation included.

        Raises:
            KeyboardInterrupt: Ctrl-C; the runs have what they had come to.
        """
        began = time.perf_counter()

        def tell(trained: Trained, state: Callable[[], State]) -> None:
            runner = self.runners[trained.number]
            metrics = self._metrics(runner, state())
            for key, value in metrics.items():
                runner.history.setdefault(key, []).append(value)
            on_epoch(trained.number, len(trained.history) - 1, metrics)
            self._keep_now_and_then(runner, state)

        plan = Plan(
            self._make_group,
            self.size,
            self._config.training.epochs,
            train=self._datasets.training_feed(self._config.training.batch_size),
            test=self._datasets.test_feed(self._config.training.batch_size),
            on_epoch=tell,
        )
        runners = [self.runners[number] for number in numbers]
        for epochs in sorted({runner.epochs for runner in runners}):
            alike = [one.trained for one in runners if one.epochs == epochs]
            if train(alike, plan):
                raise KeyboardInterrupt
        return time.perf_counter() - began

    def _keep_now_and_then(self, runner: Runner, state: Callable[[], State]) -> None:
        """Every run of a group after the same epoch, when the last time is a while ago."""
        epoch = runner.epochs
        if epoch != self._kept_epoch and time.monotonic() - self._kept_at < CHECKPOINT_SECONDS:
            return
        self._kept_epoch, self._kept_at = epoch, time.monotonic()
        runner.keep(state())

    def _make_group(self, size: int) -> Group:
        """Compiled once for each size, however many chunks there are."""
        if size not in self._groups:
            self._groups[size] = Group(
                self._template,
                self._optimizer(),
                [runner.trained.member for runner in self.runners],
                size=size,
                decayed=self._decayed,
                train=self._datasets.train,
                test=self._datasets.test,
                as_cluster=stacking.pays_as_cluster(self._template.model, size, self._num_steps),
            )
        return self._groups[size]

    def _metrics(self, runner: Runner, state: State) -> dict[str, float]:
        """An epoch as a run alone logs it."""
        config, lam = runner.config, runner.method.effective_lam
        metrics = dict(runner.trained.history[-1])
        metrics.pop("val_penalty", None)
        counted = [w for w, yes in zip(state.trainable, self._counted, strict=True) if yes]
        half = 0.5 * sum(float(np.sum(np.square(w, dtype="float64"))) for w in counted)
        rate = self._last_rate(runner)
        metrics |= {"weight_norm": (2 * half) ** 0.5, "penalty": lam * half, "learning_rate": rate}
        metrics["decay_per_step"] = rate * lam
        if runner.method.callbacks:
            metrics["weight_decay"] = config.regularization.lam
        return metrics

    def _last_rate(self, runner: Runner) -> float:
        """The learning rate of the last step of the last epoch done."""
        key = runner.config.optimizer.learning_rate, runner.epochs
        if key not in self._rates:
            rate = runner.trained.member.learning_rate
            now = rate if isinstance(rate, float) else rate(key[1] * self.steps_per_epoch - 1)
            self._rates[key] = float(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(now)))
        return self._rates[key]


class _SeededTemplate(Template):
    """The template of `experiments.models`, which seed by themselves."""

    def __init__(self, config: Config, data: Dataset) -> None:
        self._config, self._data = config, data
        classification = data.task == "classification"
        super().__init__(
            lambda: None,
            data_loss(classification),
            metrics_of(classification),
            data.x_train[:2],
            data.y_train[:2],
            seed=config.seed,
        )

    def build(self, seed: int) -> Any:
        return build_model(self._config.model, self._data, None, seed)


def _give(model: Any, state: State) -> None:
    """Gives a compiled model the weights, and its optimizer the slots, of a member."""
    for variable, value in zip(
        [*model.trainable_variables, *model.non_trainable_variables],
        [*state.trainable, *state.other],
        strict=True,
    ):
        variable.assign(value)
    model.optimizer.build(model.trainable_variables)
    own = [v for v in model.optimizer.variables if not v.path.endswith("learning_rate")]
    for variable, value in zip(own, state.optimizer, strict=True):
        variable.assign(value)
