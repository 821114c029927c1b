"""Training runs that differ in lambda, seed and learning rate only, trained at once.

What `experiments.trial` is for one run, for many: configs in, numbers and weights out. Knows
neither Hydra nor MLflow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import keras
import numpy as np

from experiments import pipeline, signals
from experiments.data import Dataset
from experiments.datasets import Datasets
from experiments.models import build_model
from experiments.optimizers import build_optimizer, build_schedule
from experiments.regularization import build_method
from experiments.runner import Runner
from experiments.schema import Config, Distribute, MixedPrecision
from experiments.trial import compiled_model, data_loss, metrics_of
from l2keras import AuditReport, audit, masks
from l2keras._sweep import loops, stacking
from l2keras._sweep.feed import Feed
from l2keras._sweep.group import Group
from l2keras._sweep.members import Member, State
from l2keras._sweep.template import Template
from l2keras._sweep.training import Plan, Trained, seated, train

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


OnEpoch = Callable[[int, int, dict[str, float]], None]  # (runner, epoch, metrics)
_Ended = tuple[Runner, Callable[[], State]]  # an epoch of a run


class Together:
    """Runs with one `group_key`.

    Args:
        configs: Of the runs.

    Attributes:
        size: How many are trained at once; `note` says why.

    Raises:
        ValueError: the model cannot share a step; see also `rehearse`.
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
        self.size, self.note = self._group_size()
        self._reports: dict[str, AuditReport] = {}
        self._groups: dict[int, Group] = {}
        self._rates: dict[tuple[float, int], float] = {}
        self._kept_at = time.monotonic()
        self._rehearsed = 0.0  # seconds that the first chunk counts as its own

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

    def _group_size(self) -> tuple[int, str]:
        batch_size = self._config.training.batch_size
        return stacking.group_size(
            self._template.model, self._optimizer(), len(self.runners), batch_size, None
        )

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
            runner.give(model)
        return model

    def chunks(self) -> list[list[int]]:
        """The numbers of the runs that are trained at once; runs of one seed share batches."""
        ordered = sorted(range(len(self.runners)), key=lambda i: self.runners[i].config.seed)
        return [ordered[i : i + self.size] for i in range(0, len(ordered), self.size)]

    def rehearse(self) -> None:
        """Compiles what training needs, and trains no run.

        Raises:
            NotVectorizedError: the model has no stacked form.
        """
        began = time.perf_counter()
        group = self._make_group(self.size)
        first = [self.runners[number].trained for number in self.chunks()[0]]
        seats = seated(first, group)
        members = [one.member for one in seats]
        group.load(members, [one.state for one in seats])  # as every training does anew
        train, test = self._feeds()
        with loops.threads() as pool:
            group.fit([train.batches(members, 0)[0][:1]], pool)
            group.evaluate([test.batches(members, 0)[0][:1]], pool)
        self._rehearsed = time.perf_counter() - began

    def _feeds(self) -> tuple[Feed, Feed]:
        batch_size = self._config.training.batch_size
        return self._datasets.training_feed(batch_size), self._datasets.test_feed(batch_size)

    def fit(self, numbers: Sequence[int], on_epoch: OnEpoch) -> None:
        """Trains the runs of a chunk; each counts its share of the wall time, compiling included.

        Args:
            numbers: Of the runs.
            on_epoch: Called with the number of the run, the epoch and its metrics; with the
                epochs of a checkpoint first.

        Raises:
            KeyboardInterrupt: Ctrl-C. Whatever is raised, `Runner.keep` has a whole epoch to keep.
        """
        began = time.perf_counter() - self._rehearsed
        self._rehearsed = 0.0
        for runner in self.runners:
            runner.whole = None  # those of the chunk before are done
        runners = [self.runners[number] for number in numbers]
        for runner in runners:
            for epoch in range(runner.epochs):
                on_epoch(runner.trained.number, epoch, runner.metrics(epoch))

        def share() -> None:
            seconds = (time.perf_counter() - began) / len(runners)
            for runner in runners:
                runner.seconds = runner.earlier + seconds

        plan = self._plan(on_epoch, share)
        alike = [
            [one.trained for one in runners if one.epochs == epochs]
            for epochs in sorted({runner.epochs for runner in runners})
        ]
        stopped = any(train(members, plan) for members in alike)
        share()
        if stopped:
            raise KeyboardInterrupt

    def _plan(self, on_epoch: OnEpoch, share: Callable[[], None]) -> Plan:
        ended: list[_Ended] = []

        def tell(trained: Trained, state: Callable[[], State]) -> None:
            ended.append((self.runners[trained.number], state))

        def tell_all() -> None:
            share()
            with signals.held():  # so that all runs have come as far as one another
                self._end_epoch(ended, on_epoch)
            ended.clear()
            signals.check()

        train, test = self._feeds()
        return Plan(
            self._make_group,
            self.size,
            self._config.training.epochs,
            train=train,
            test=test,
            on_epoch=tell,
            on_group_epoch=tell_all,
        )

    def _end_epoch(self, ended: Sequence[_Ended], on_epoch: OnEpoch) -> None:
        """Takes down an epoch of all runs of a group, then tells of it."""
        for runner, state in ended:
            for key, value in self._metrics(runner, state()).items():
                runner.history.setdefault(key, []).append(value)
            runner.whole = state()
        for runner, _ in ended:
            epoch = runner.epochs - 1
            on_epoch(runner.trained.number, epoch, runner.metrics(epoch))
        if time.monotonic() - self._kept_at >= CHECKPOINT_SECONDS:
            self._kept_at = time.monotonic()
            for runner, _ in ended:
                runner.keep()

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
                clusters=self._clusters(size),
            )
        return self._groups[size]

    def _clusters(self, size: int) -> list[int]:
        """The batch size, if a step is better compiled as a whole: there is no remainder."""
        pays = stacking.pays_as_cluster(self._template.model, size, self._num_steps)
        return [self._config.training.batch_size] if pays else []

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
        """The learning rate of the last update in the epochs done."""
        key = runner.config.optimizer.learning_rate, runner.epochs
        if key not in self._rates:
            rate = runner.trained.member.learning_rate
            accumulated = self._config.training.gradient_accumulation_steps
            updates = key[1] * self.steps_per_epoch // accumulated
            last = max(updates * accumulated - 1, 0)  # as `optimizers.last_learning_rate`
            now = rate if isinstance(rate, float) else rate(last)
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
