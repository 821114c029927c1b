"""Training runs that differ in lambda, seed and learning rate only, trained at once.

What `training.trial` is for one run, for many: configs in, numbers and weights out. Knows
neither Hydra nor MLflow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from l2keras import AuditReport, audit
from l2keras_experiments.config.schema import Config, Distribute, MixedPrecision
from l2keras_experiments.data import batches
from l2keras_experiments.data.datasets import Dataset, rows
from l2keras_experiments.library import (
    Feed,
    Group,
    Member,
    Plan,
    State,
    Template,
    Trained,
    check_elementwise,
    check_model,
    group_size,
    pays_as_cluster,
    seated,
    threads,
    train,
)
from l2keras_experiments.runtime import device, signals
from l2keras_experiments.sweeps.vectorized.datasets import Datasets
from l2keras_experiments.sweeps.vectorized.stacked_run import StackedRun
from l2keras_experiments.training.models import build_model
from l2keras_experiments.training.objectives import loss_of, metrics_of
from l2keras_experiments.training.optimizers import build_optimizer, build_schedule
from l2keras_experiments.training.regularization import beside_lambda, build_method
from l2keras_experiments.training.stopping import validated_epochs
from l2keras_experiments.training.trial import compiled_model

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
_FREE = {
    "regularization.name", "regularization.lam", "seed", "optimizer.learning_rate",
    "tracking.planned",
}  # fmt: skip


def reason_alone(config: Config) -> str | None:
    """What keeps a run from sharing a step with others, by its key; None where nothing does."""
    optimizer, training = config.optimizer, config.training
    beside = beside_lambda(config.regularization)
    keys = {
        f"regularization={config.regularization.name}": config.regularization.name
        not in _COUPLINGS,
        ", ".join(f"regularization.{key}" for key in beside): beside != [],
        # An own function may make the rate, or anything else, of what it is given.
        f"optimizer={optimizer.target}": not optimizer.target.startswith("keras.optimizers."),
        "optimizer.clipnorm": optimizer.arguments.get("clipnorm") is not None,
        "optimizer.global_clipnorm": optimizer.arguments.get("global_clipnorm") is not None,
        "training.jit": training.jit,
        "training.class_weight": training.class_weight is not None,
        "training.callbacks": training.callbacks != [],
        "training.mixed_precision=float16": training.mixed_precision is MixedPrecision.float16,
        "distribute=mirrored": config.distribute is Distribute.mirrored,
    }
    return next((key for key, holds in keys.items() if holds), None)


def group_key(config: Config, flat: dict[str, Any]) -> Hashable | None:
    """Equal for runs that can be trained at once; None for one that cannot be with any other."""
    if reason_alone(config) is not None:
        return None
    return tuple(sorted((key, str(value)) for key, value in flat.items() if key not in _FREE))


OnEpoch = Callable[[int, int, dict[str, float]], object]  # (stacked, epoch, metrics)
_Ended = tuple[StackedRun, Callable[[], State]]  # an epoch of a run


class GroupTrainer:
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
        self.steps_per_epoch = batches.steps_per_epoch(data.num_train, first.training.batch_size)
        self._num_steps = first.training.epochs * self.steps_per_epoch
        device.begin_session(first)
        self._template = _SeededTemplate(first, data)
        check_model(self._template.model)
        check_elementwise(self._optimizer())
        decayed = {id(v) for v in build_method(first).selected(self._template.model)}
        self._decayed = [id(variable) in decayed for variable in self._template.trainable]
        self._initial = {seed: self._template.initial(seed) for seed in {c.seed for c in configs}}
        self._schedules: dict[str, Any] = {}
        self.runs = [self._stacked_run(*numbered) for numbered in enumerate(configs)]
        self.size, self.note = self._group_size()
        self._reports: dict[tuple[str, str], AuditReport] = {}
        self._audited: tuple[tuple[str, str], Any, Any] | None = None  # kind, model, regularizer
        self._groups: dict[Hashable, Group] = {}
        self._rates: dict[tuple[float, int], float] = {}
        self._kept_at = time.monotonic()
        self._rehearsed = 0.0  # seconds that the first chunk counts as its own

    def replace_runs(self, configs: Sequence[Config]) -> None:
        """Takes other runs, of the same `group_key` and seeds and no more of them.

        What has been compiled stays, unless their couplings or schedules are others.
        """
        self.runs = [self._stacked_run(*numbered) for numbered in enumerate(configs)]

    def _stacked_run(self, number: int, config: Config) -> StackedRun:
        method = build_method(config, self._num_steps)
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
        return StackedRun(
            config, method, Trained(number, member, State(*self._initial[config.seed])), {}
        )

    def _group_size(self) -> tuple[int, str]:
        batch_size = self._config.training.batch_size
        return group_size(self._template.model, self._optimizer(), len(self.runs), batch_size, None)

    def _optimizer(self) -> Any:
        steps = self._config.training.gradient_accumulation_steps
        return build_optimizer(
            self._config.optimizer, self._num_steps, gradient_accumulation_steps=steps
        )

    def audit(self, stacked: StackedRun) -> AuditReport:
        """What is decayed in a run, as audited on a model like its own; the seed decides nothing.

        Runs that differ in lambda share that model, and the HalfL2 on it: to build it takes longer.
        """
        config, method = stacked.config, stacked.method
        key = repr(config.regularization), repr(config.optimizer)
        if key not in self._reports:
            kind = config.regularization.name, key[1]
            if self._audited is None or self._audited[0] != kind:
                own = build_method(config, self._num_steps)
                model = compiled_model(config, self.data(stacked), own, self._num_steps)
                self._audited = kind, model, own.regularizer
            _, model, regularizer = self._audited
            if regularizer is not None:
                regularizer.lam = method.regularizer.lam
            self._reports[key] = audit(model, method.callbacks)
        return self._reports[key]

    def data(self, stacked: StackedRun) -> Dataset:
        """The examples of a run."""
        return self._datasets.of(stacked.config)

    def model(self, stacked: StackedRun) -> Any:
        """The model of a run that has trained, compiled as it is when it is trained alone."""
        data = self.data(stacked)
        model = compiled_model(stacked.config, data, stacked.method, self._num_steps)
        stacked.give(model)
        return model

    def chunks(self) -> list[list[int]]:
        """The numbers of the runs that are trained at once; runs of one seed share batches."""
        ordered = sorted(range(len(self.runs)), key=lambda i: self.runs[i].config.seed)
        return [ordered[i : i + self.size] for i in range(0, len(ordered), self.size)]

    def rehearse(self) -> None:
        """Compiles what training needs, and trains no run.

        Raises:
            NotVectorizedError: the model has no stacked form.
        """
        began = time.perf_counter()
        group = self._make_group(self.size)
        first = [self.runs[number].trained for number in self.chunks()[0]]
        placed = seated(first, group)
        members = [one.member for one in placed]
        group.load(members, [one.state for one in placed])  # as every training does anew
        train, validation = self._feeds()
        with threads() as pool:
            group.fit([train.batches(members, 0)[0][:1]], pool)
            group.evaluate([validation.batches(members, 0)[0][:1]], pool)
        self._rehearsed = time.perf_counter() - began

    def _feeds(self) -> tuple[Feed, Feed]:
        batch_size = self._config.training.batch_size
        return self._datasets.training_feed(batch_size), self._datasets.validation_feed(batch_size)

    def fit(
        self,
        numbers: Sequence[int],
        on_epoch: OnEpoch,
        on_restored: OnEpoch = lambda *_: None,
        after_epoch: Callable[[], None] = lambda: None,
    ) -> None:
        """Trains the runs of a chunk; each counts its share of the wall time, compiling included.

        Args:
            numbers: Of the runs.
            on_epoch: Called with the number of the run, the epoch and its metrics; with the
                epochs of a checkpoint first.
            on_restored: Called with the number of the run, the number of its epochs and the
                metrics of the best one, where early stopping restores its weights.
            after_epoch: Called when `on_epoch` has been called for all runs that train.

        Raises:
            KeyboardInterrupt: Ctrl-C. Whatever is raised, `StackedRun.keep` has a whole epoch.
        """
        began = time.perf_counter() - self._rehearsed
        self._rehearsed = 0.0
        for stacked in self.runs:
            stacked.whole = None  # those of the chunk before are done
        stacked_runs = [self.runs[number] for number in numbers]
        for stacked in stacked_runs:
            for epoch in range(stacked.epochs):
                on_epoch(stacked.trained.number, epoch, stacked.metrics(epoch))

        def share() -> None:
            seconds = (time.perf_counter() - began) / len(stacked_runs)
            for stacked in stacked_runs:
                stacked.seconds = stacked.earlier + seconds

        plan = self._plan(on_epoch, after_epoch, share)
        if any(
            train(members, replace(plan, epochs=last)) for members, last in _alike(stacked_runs)
        ):
            share()
            raise KeyboardInterrupt
        ended = [stacked for stacked in stacked_runs if stacked.has_result]
        _restore_best(ended, on_restored)
        self._measure_test(ended)
        share()

    def _measure_test(self, stacked_runs: Sequence[StackedRun]) -> None:
        """Gives each run its metrics on the test examples."""
        feed = self._datasets.test_feed(self._config.training.batch_size)
        if feed is None:
            return
        group = self._make_group(self.size)
        for start in range(0, len(stacked_runs), self.size):
            chunk = stacked_runs[start : start + self.size]
            placed = seated([stacked.trained for stacked in chunk], group)
            members = [one.member for one in placed]
            group.load(members, [one.state for one in placed])
            with threads() as pool:
                logs = group.evaluate(feed.batches(members, 0), pool)
            names = {key.removeprefix("val_"): key for key in logs}
            for place, stacked in enumerate(chunk):
                stacked.test = {
                    f"test_{name}": float(logs[key][place])
                    for name, key in names.items()
                    if name not in ("loss", "penalty")
                }

    def _plan(
        self, on_epoch: OnEpoch, after_epoch: Callable[[], None], share: Callable[[], None]
    ) -> Plan:
        ended: list[_Ended] = []

        def tell(trained: Trained, state: Callable[[], State]) -> None:
            ended.append((self.runs[trained.number], state))

        def tell_all() -> None:
            share()
            with signals.held():  # so that all runs have come as far as one another
                self._end_epoch(ended, on_epoch)
                after_epoch()
            ended.clear()
            signals.check()

        train, validation = self._feeds()
        training = self._config.training
        validated = validated_epochs(training.epochs, training.validation_freq)
        return Plan(
            self._make_group,
            self.size,
            training.epochs,
            train=train,
            test=validation,
            validates=lambda epoch: isinstance(validated, int) or epoch + 1 in validated,
            on_epoch=tell,
            on_group_epoch=tell_all,
        )

    def _end_epoch(self, ended: Sequence[_Ended], on_epoch: OnEpoch) -> None:
        """Takes down an epoch of all runs of a group, then tells of it."""
        for stacked, state in ended:
            stacked.end_epoch(self._metrics(stacked, state()), state())
        for stacked, _ in ended:
            epoch = stacked.epochs - 1
            on_epoch(stacked.trained.number, epoch, stacked.metrics(epoch))
        is_due = time.monotonic() - self._kept_at >= CHECKPOINT_SECONDS
        if is_due:
            self._kept_at = time.monotonic()
        for stacked, _ in ended:
            if is_due or stacked.is_over:  # one that is over ends no further epoch
                stacked.keep()

    def _make_group(self, size: int) -> Group:
        """Compiled once for each size, however many chunks there are."""
        members = [stacked.trained.member for stacked in self.runs]
        couplings = frozenset(member.coupling for member in members if member.lam)
        schedules = {id(m.learning_rate) for m in members if not isinstance(m.learning_rate, float)}
        key = size, couplings, frozenset(schedules)
        if key not in self._groups:
            self._groups[key] = Group(
                self._template,
                self._optimizer(),
                members,
                size=size,
                decayed=self._decayed,
                train=self._datasets.train,
                test=self._datasets.evaluation,
                clusters=self._clusters(size),
            )
        return self._groups[key]

    def _clusters(self, size: int) -> list[int]:
        """The batch size, if a step is better compiled as a whole: there is no remainder."""
        pays = pays_as_cluster(self._template.model, size, self._num_steps)
        return [self._config.training.batch_size] if pays else []

    def _metrics(self, stacked: StackedRun, state: State) -> dict[str, float]:
        """An epoch as a run alone logs it."""
        config, lam = stacked.config, stacked.method.effective_lam
        metrics = dict(stacked.trained.history[-1])
        metrics.pop("val_penalty", None)
        counted = [w for w, yes in zip(state.trainable, self._decayed, strict=True) if yes]
        half = 0.5 * sum(float(np.sum(np.square(w, dtype="float64"))) for w in counted)
        rate = self._last_rate(stacked)
        metrics |= {"weight_norm": (2 * half) ** 0.5, "penalty": lam * half, "learning_rate": rate}
        metrics["decay_per_step"] = rate * lam
        if stacked.method.callbacks:
            metrics["weight_decay"] = config.regularization.lam
        return metrics

    def _last_rate(self, stacked: StackedRun) -> float:
        """The learning rate of the last update in the epochs done."""
        key = stacked.config.optimizer.learning_rate, stacked.epochs
        if key not in self._rates:
            rate = stacked.trained.member.learning_rate
            accumulated = self._config.training.gradient_accumulation_steps
            updates = key[1] * self.steps_per_epoch // accumulated
            last = max(updates * accumulated - 1, 0)  # as `optimizers.last_learning_rate`
            if isinstance(rate, float):  # as the variable of an optimizer holds it
                self._rates[key] = float(np.asarray(rate, keras.config.floatx()))
            else:
                scheduled = keras.ops.convert_to_tensor(rate(last))
                self._rates[key] = float(keras.ops.convert_to_numpy(scheduled))
        return self._rates[key]


def _alike(stacked_runs: Sequence[StackedRun]) -> list[tuple[list[Trained], int]]:
    """Members that have come equally far, and the number of epochs that they train to."""
    ends: dict[tuple[int, int], list[Trained]] = {}
    for stacked in stacked_runs:
        last = stacked.epochs if stacked.is_over else stacked.config.training.epochs
        ends.setdefault((stacked.epochs, last), []).append(stacked.trained)
    return [(members, last) for (_, last), members in sorted(ends.items(), key=lambda one: one[0])]


def _restore_best(stacked_runs: Sequence[StackedRun], on_restored: OnEpoch) -> None:
    for stacked in stacked_runs:
        if stacked.restore_best():
            on_restored(stacked.trained.number, stacked.epochs, stacked.final)


class _SeededTemplate(Template):
    """The template of `l2keras_experiments.training.models`, which seed by themselves."""

    def __init__(self, config: Config, data: Dataset) -> None:
        self._config, self._data = config, data
        super().__init__(
            lambda: None,
            loss_of(config.training, data.task),
            metrics_of(config.training, data.task),
            rows(data.x_train, slice(2)),
            data.y_train[:2],
            seed=config.seed,
        )

    def build(self, seed: int) -> Any:
        unregularized = replace(build_method(self._config), regularizer=None)
        loss = self._config.training.loss
        return build_model(self._config.model, self._data, unregularized, seed, loss)
