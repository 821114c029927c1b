"""WeightDecay: decay with a lambda, inside the compiled train step, for any optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from l2keras import _calls, _validation, masks
from l2keras._audit.report import AuditReport
from l2keras._audit.reporter import Reporter
from l2keras._decay import forms
from l2keras._decay.anchors import Anchors, Toward
from l2keras._decay.blocks import decayed_block
from l2keras._decay.groups import Group
from l2keras._decay.lazy import LazyTables, check_lazy
from l2keras._decay.rules import DecayRule, Lam, lam_at, rate
from l2keras._decay.train_function import DecayedTrainFunction
from l2keras._keras import held, optimizers
from l2keras._keras.backup import backup_of_fit
from l2keras._keras.variables import has_variables

_MADE = "Pass a callback that is made: callbacks=[WeightDecay(lam=1e-4)]."
_RATE = "Leave it out: the optimizer has the learning rate."
_CONSTANT = "Pass a float; or assign callback.layer_decay between epochs."
_INSTEAD = {
    "lr": _RATE,
    "learning_rate": _RATE,
    "decoupled": 'Write coupling="decoupled", which is the default.',
}


class WeightDecay(keras.callbacks.Callback):
    """Decays weights inside the compiled train step, textbook convention.

    Convention: `lam` is the coefficient of `W` in the gradient. With W_t the weights, g the
    gradient of the loss at W_t (clipped, if the optimizer clips) and eta_t the learning rate,

        coupling="decoupled"      W <- (1 - eta_t * lam) * W_t - step(g)
        coupling="coupled"        W <- W_t - step(g + lam * W_t)
        coupling="independent"    W <- (1 - lam * eta_t / eta_peak) * W_t - step(g)

    The first is `torch.optim.AdamW(weight_decay=lam)` and, under plain SGD, the second; the
    second is `torch.optim.SGD` and `Adam(weight_decay=lam)`. Sources: Loshchilov and Hutter,
    arXiv 1711.05101; torch/optim/sgd.py, adam.py and adamw.py. The other forms:

        corrected=True     W <- (1 - lam * eta_t ** 2 / eta_peak) * W_t - step(g)    AdamC
        cautious=True      W <- W_t - eta_t * lam * W_t * (step(g) * W_t >= 0) - step(g)
        stable=True        W <- (1 - eta_t * lam / sqrt(mean(v_hat))) * W_t - step(g)    AdamS
        toward=...         W <- W_t - eta_t * lam * (W_t - W_0) - step(g)    L2-SP
        layer_decay=d      lam * d ** (number of decayed layers that follow)

    Sources: arXiv 2506.02285; 2510.12402; 2011.11152; 1802.01483; for the last, timm's
    `param_groups_layer_decay`, whose scaled learning rate scales the decay with it.

    bfloat16 and float16 variables are rounded at random, so that decay below half a unit in
    the last place is exact on average; coupled and cautious decay, which are lost there, are
    refused.

    Args:
        lam: Finite, non-negative float; or a `LearningRateSchedule`, or a callable of the step
            (a float tensor of rank 0: the count of updates, `optimizer.iterations`), that is
            evaluated inside the compiled step: a function of the step alone; or a mapping of globs
            on `variable.path` to these, the first that matches counting, such as
            `{"encoder/*": 1e-2, "*": 1e-4}`.
            Units: 1 / learning rate; for "independent" the fraction of W lost per step at the
            peak learning rate.
        coupling: "decoupled", "coupled" or "independent".
        include: Glob pattern(s) on `variable.path`, or a predicate on the variable: what is
            decayed. By default kernels and embeddings; no bias, normalization parameter, gain or
            slope, of whatever rank. `report` says for each variable which it is, and why.
        exclude: The same, taken away from what is included.
        peak_learning_rate: eta_peak for "independent" and `corrected`. By default the peak of
            the optimizer's schedule, or its learning rate when `fit` begins.
        corrected: True for the layers of a Functional or Sequential model whose output always
            meets a normalization layer; or globs or a predicate that name them.
        cautious: Decays only where the optimizer's step shrinks the weight's size too.
        stable: For Adam, Nadam and Lamb: divides by the root of the mean of v_hat, taken over
            all variables of the optimizer, after the step.
        toward: "init", the weights when `fit` first begins, or the path of a `.keras` or
            `.weights.h5` file with the weights W_0.
        layer_decay: Positive float; 1 gives every layer the same lam. A layer is one that
            `model.layers` lists, nested models opened, in that order; the last has `lam` itself,
            and so have variables of the model's own.
        lazy: For embeddings on TensorFlow, under SGD, Adagrad, RMSprop or Adadelta without
            momentum: rows are decayed when `Embedding` next looks them up, and all of them at
            the end of every epoch. Equal to the dense form, and much cheaper for a large table.
            What reads the table in the middle of an epoch beside the step (a checkpoint,
            `evaluate` or `predict` in another callback) needs `settle()` first. What writes it
            then must be Keras' own: `set_weights`, `load_weights`, `assign` of the Keras variable.
            Writes to the TensorFlow variable (`embeddings.value.assign`, a restored
            `tf.train.Checkpoint`) go unnoticed, and rows would be decayed for steps before the
            write; call `settle()` right before it.
        optimizer: The optimizer in whose updates the weights decay; by default the one of
            `model.compile`. For a model with several (a GAN, actor and critic) pass one callback
            for each, with the optimizer itself or the name of the model's attribute, such as
            "d_optimizer". Without `include` it decays what that optimizer updates.
        fused: On TensorFlow in graph mode (`jit_compile=False`), whether the optimizer's update
            of a variable and its decay are compiled as one XLA cluster: one pass over the weights
            in the place of some five, equal to the plain form to rounding. By default where it
            pays: under an optimizer of Keras, on a CPU, for variables of 4 MB and more. The plain
            form is taken where there is no other: sparse gradients, inside a `tf.distribute`
            strategy, 16-bit variables, `stable`, an optimizer that does not update each variable
            by itself (Nadam), operations that XLA does not know or does otherwise (random
            numbers, checks), eager mode. Why, is logged (logger "l2keras", INFO). TensorFlow keeps
            what it has compiled as long as the process lives: for hundreds of models in one, pass
            False. Without effect on JAX, which compiles the whole step, and on torch.

    What changes in mid-fit counts from the next step on: an argument that is set on the callback
    (`decay.lam = 0.1`), another `model.optimizer`, another optimizer where the model held the one
    that was passed, another schedule of the learning rate or an attribute of a schedule of Keras,
    `compile` followed by `make_train_function`. Each such change traces the step anew; the course
    of a schedule does not.

    Raises:
        TypeError, ValueError: at construction for a bad argument and for forms that do not go
            together; when `fit` begins for an optimizer that decays already or cannot take the
            form, a pattern that matches nothing, and groups that overlap; in `fit` for a learning
            rate above the peak that was taken from its beginning.
        ValueError: in `fit` for a `weight_decay` that the optimizer gets meanwhile, and for a
            callable `lam` that cannot be traced; at the end of an epoch for one that reads more
            than the step and whose changed value the compiled step does not follow.
        RuntimeError: after the first step (in eager mode: the first epoch) for a variable that
            should decay and that the optimizer does not update; on TensorFlow for an update in
            a tf.function that the train_step calls, as it would decay in later fits.

    Adds to the epoch logs, for the last step of the epoch, `weight_decay` (lam) and
    `decay_per_step` (lam times what it is multiplied by: eta_t, eta_t / eta_peak or
    eta_t ** 2 / eta_peak). Several groups log `weight_decay_2` and so on.

    When `fit` begins, `report` becomes the `AuditReport` of the model and of all WeightDecay
    callbacks. It is None before; with `optimizer` it waits for the first step, which shows what
    that one updates. A new report follows each change in mid-fit, and each epoch in which a step
    takes more of the weights than the report knew. The digest goes to the logger "l2keras" (INFO),
    the table too (DEBUG), and each finding of severity "error" or of decay that turns signs
    (WARNING).

    Example:

    >>> layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    >>> model = keras.Sequential([keras.Input((1,)), layer])
    >>> model.compile(keras.optimizers.SGD(learning_rate=0.5), "mse")
    >>> zeros = keras.ops.zeros((1, 1))
    >>> history = model.fit(zeros, zeros, verbose=0, callbacks=[WeightDecay(0.5)])
    >>> float(model.get_weights()[0][0, 0])  # 1 - 0.5 * 0.5; the gradient is zero
    0.75
    >>> history.history["decay_per_step"]
    [0.25]
    """

    @_calls.explained("WeightDecay", _INSTEAD)
    def __init__(
        self,
        lam: Lam | Mapping[str, Lam],
        *,
        coupling: str = "decoupled",
        include: masks.Patterns = None,
        exclude: masks.Patterns = None,
        peak_learning_rate: float | None = None,
        corrected: bool | str | Sequence[str] | Callable[[Any], bool] = False,
        cautious: bool = False,
        stable: bool = False,
        toward: Toward | None = None,
        layer_decay: float = 1.0,
        lazy: bool = False,
        fused: bool | None = None,
        optimizer: Any = None,
    ) -> None:
        super().__init__()
        self.lam = lam
        self.coupling = coupling
        self.include = include
        self.exclude = exclude
        self.corrected = corrected
        self.cautious = cautious
        self.stable = stable
        self.toward = toward
        self.lazy = lazy
        self.fused = fused
        self.layer_decay = layer_decay
        self.peak_learning_rate = peak_learning_rate
        self.optimizer = optimizer
        self._anchors: Anchors | None = None
        self._tables: LazyTables | None = None
        self.report: AuditReport | None = None
        self._reporter: Reporter | None = None
        self._train_function: DecayedTrainFunction | None = None
        self._check_arguments()

    def _check_arguments(self) -> None:
        """Checks the attributes, which may have been set since the construction."""
        forms.check_lams(self.lam)
        forms.check_forms(self.coupling, vars(self))
        masks.check_patterns(self.include, "include")
        masks.check_patterns(self.exclude, "exclude")
        _validation.check_constant(self.layer_decay, "layer_decay", _CONSTANT)
        self.layer_decay = _validation.check_positive(
            self.layer_decay, "layer_decay", "Leave it out."
        )
        self.peak_learning_rate = forms.check_peak(
            self.peak_learning_rate, self.coupling, self.corrected
        )
        _check_optimizer(self.optimizer)
        if self.toward is None:
            self._anchors = None
        elif self._anchors is None or self._anchors.toward != self.toward:
            self._anchors = Anchors(self.toward)
        if not self.lazy:
            self.settle()
            self._tables = None
        elif self._tables is None:
            self._tables = LazyTables()

    def _arguments(self) -> tuple[Any, ...]:
        """What was given, to notice what is set in mid-fit; mappings and lists by their items.

        Arrays of rank 0, which may be changed in place, count by their value; schedules of Keras
        by what they compute with, too.
        """
        values: list[Any] = []
        for name in forms.ARGUMENTS:
            value = getattr(self, name)
            if isinstance(value, Mapping):
                values += [item for pair in value.items() for item in pair]
            elif isinstance(value, list):
                values += value
            else:
                values.append(value)
        for value in tuple(values):
            values += optimizers.settings_of_schedule(value) or ()
        is_scalar = [isinstance(value, np.ndarray) and value.ndim == 0 for value in values]
        return tuple(
            value.item() if scalar else value
            for value, scalar in zip(values, is_scalar, strict=True)
        )

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: the arguments and the report, without the model and its step."""
        return {**vars(self), "_model": None, "_train_function": None, "_reporter": None}

    @_calls.explained("WeightDecay.set_model", remedy=_MADE)
    def set_model(self, model: Any) -> None:
        """Takes the model from `fit`; raises where `callbacks` holds the class."""
        super().set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the decay into the train step of this `fit`."""
        model = self.model
        self._check_arguments()
        if self._anchors is not None and has_variables(model):
            self._anchors.begin(model, backup_of_fit())
        group = Group(self, model)
        installed = model.train_function
        if not isinstance(installed, DecayedTrainFunction):
            installed = DecayedTrainFunction(model, previous=self._train_function)
        self._train_function = installed
        installed.add(group)
        first = installed.groups[0].callback
        self._reporter = Reporter(model, installed) if first is self else first._reporter
        self.report = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Audits the model, when every callback has begun."""
        if self._train_function is not None:
            self._train_function.begin_epoch()
        self._follow()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Keeps the decay in, whatever another callback did to the step or its optimizer."""
        if self._train_function is not None:
            self._train_function.refresh()
            self._follow()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Checks the first step; after the last of an epoch every lazy row is up to date."""
        if self._train_function is not None:
            self._train_function.check_first_step()
            self._follow()
        steps = (self.params or {}).get("steps")
        if self._tables is not None and steps is not None and batch + 1 >= steps:
            self.settle()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Validation reads lazily decayed rows outside the train step."""
        self.settle()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes `weight_decay` and `decay_per_step` into the epoch logs."""
        self._follow(may_wait=False)
        self.settle()
        if self._train_function is None or self._reporter is None or logs is None:
            return
        self._train_function.check_updates()
        self._train_function.check_lams()
        group = self._train_function.group_of(self)
        members = optimizers.inner_optimizers(group.optimizer)
        step = keras.ops.maximum(members[0].iterations - 1, 0)
        fastest = max(members, key=optimizers.last_learning_rate)
        eta = optimizers.last_learning_rate(fastest)
        per_lam = rate(group.rule, eta, fastest, corrected=bool(group.rule.corrected))
        for _, lam in group.rule.lams:
            suffix, value = _free_suffix(logs), float(lam_at(lam, step))
            logs[f"weight_decay{suffix}"] = value
            logs[f"decay_per_step{suffix}"] = value * per_lam
            self.report = self._reporter.watch(value * per_lam)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the decay out again."""
        self.settle()
        if self._reporter is not None:
            self.report = self._reporter.report  # another callback may have made the last one
        if self._train_function is not None:
            self._train_function.uninstall()

    def settle(self) -> None:
        """Gives every lazily decayed row what it missed; before the table is read in mid-epoch."""
        if self._tables is not None:
            self._tables.settle()

    @_calls.explained("in_step")
    @contextmanager
    def in_step(self, model: Any, optimizer: Any = None) -> Iterator[None]:
        """Decays in every update of `optimizer` inside the block: for loops without `fit`.

        What you compile (tf.function, jax.jit) keeps what it was traced with: trace it inside the
        block, and call it there only. A tf.function inside a compiled `train_step` raises an error.
        The steps that Keras compiles for `fit` and `train_on_batch` are traced anew at both ends,
        those of every model that holds one of the variables. Several callbacks nest, one block in
        the other. At the end lazily decayed rows are settled.

        Args:
            model: A built Keras model.
            optimizer: The Keras optimizer; by default the callback's, or the one that `model` is
                compiled with.

        Raises:
            TypeError, ValueError: as when `fit` begins.

        Example:

        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.layers[0].kernel.assign([[1.0]]) is not None
        True
        >>> optimizer = keras.optimizers.SGD(learning_rate=0.5)
        >>> gradients = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
        >>> with WeightDecay(0.5).in_step(model, optimizer):
        ...     optimizer.apply(gradients, model.trainable_variables)
        >>> float(model.get_weights()[0][0, 0])
        0.75
        """
        forms.check_model(model, "in_step")
        if not has_variables(model):
            raise ValueError(_not_built("`in_step` needs the variables of the model."))
        optimizer = self._optimizer_of(model) if optimizer is None else optimizer
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise TypeError(
                _validation.error(
                    "`optimizer` must be a Keras optimizer.",
                    f"optimizer={_validation.shown(optimizer)} of type {type(optimizer).__name__}",
                    "Pass the one whose apply your loop calls.",
                )
            )
        self._check_arguments()
        if self._anchors is not None:
            self._anchors.begin(model)
        with decayed_block(Group(self, model, optimizer), model):
            yield

    def _follow(self, *, may_wait: bool = True) -> None:
        """Sets `report`: the same for all callbacks of the `fit`, of which the first makes it."""
        if self._reporter is not None:
            self.report = self._reporter.follow(may_wait=may_wait)

    def _rule_in_force(self, model: Any, optimizer: Any) -> DecayRule:
        """The rule of the running `fit`, which knows the peaks of its beginning; else a new one."""
        running = self._running(model)
        if running is not None:
            group = running.group_of(self)
            if group.optimizer is optimizer and group.is_current():
                return group.rule
        return self._rule_for(optimizer)

    def _updated_by(self, model: Any, optimizer: Any) -> set[int] | None:
        """The ids of what `optimizer` updates: in the running `fit`, or by its build; or None."""
        running = self._running(model)
        updated = set() if running is None else running.updates.by(optimizer)
        return updated or held.updated_variables(optimizer)

    def _running(self, model: Any) -> DecayedTrainFunction | None:
        """The train function of a `fit` of `model` that is running with this callback."""
        running = self._train_function
        return running if running is not None and model.train_function is running else None

    def _optimizer_of(self, model: Any) -> Any:
        """The optimizer of `model` in whose updates this callback acts now."""
        running = self._running(model)
        group = None if running is None else running.find_group(self)
        return self._optimizer_named(model) if group is None else group.present_optimizer(model)

    def _optimizer_named(self, model: Any) -> Any:
        """The optimizer that the argument names, or is."""
        if isinstance(self.optimizer, str):
            named = held.optimizer_named(model, self.optimizer)
            if named is None:
                known = held.held_optimizers(model)
                raise ValueError(_no_such_optimizer(self.optimizer, known))
            return named
        return _optimizer_of(model) if self.optimizer is None else self.optimizer

    def _make_rule(self, model: Any, optimizer: Any) -> DecayRule:
        """The rule, after the checks that need the model and its optimizer."""
        optimizers.find_members(optimizer, model)
        optimizers.check_supported(optimizer, self.coupling)
        if (self.lazy or self.toward) and not has_variables(model):
            raise ValueError(_not_built("`toward` and `lazy` need the variables when fit begins."))
        for member in optimizers.inner_optimizers(optimizer):
            if self.stable:
                optimizers.check_second_moment(member)
            if self.lazy:
                check_lazy(member)
        rule = self._rule_for(optimizer)
        if self.lazy:
            rule.check_factors(optimizers.inner_optimizers(optimizer))
        return rule

    def _rule_for(self, optimizer: Any) -> DecayRule:
        """What is asked for; without an optimizer (None) the peak learning rate may be unknown."""
        members = [] if optimizer is None else optimizers.inner_optimizers(optimizer)
        self._check_arguments()
        lams = forms.check_lams(self.lam)
        step = members[0].iterations + 0 if members else 0  # its value, a tensor
        for _, lam in lams:
            forms.check_value(lam, step)
        peaks: dict[int, float] = {}
        if self.coupling == "independent" or self.corrected:
            own = self.peak_learning_rate
            peaks = {id(one): own or optimizers.peak_learning_rate(one) for one in members}
        return DecayRule(
            lams=lams,
            coupling=self.coupling,
            include=self.include,
            exclude=self.exclude,
            peaks=peaks,
            layer_decay=self.layer_decay,
            corrected=self.corrected,
            cautious=self.cautious,
            stable=self.stable,
            anchors=self._anchors,
            tables=self._tables,
            fused=self.fused,
        )

    def __str__(self) -> str:
        """What Keras writes where it expects a regularizer, an optimizer or a loss."""
        return f"{self!r}, a callback: pass it to fit(callbacks=[...]), and HalfL2(lam) to layers"

    def __repr__(self) -> str:
        return f"WeightDecay({self.lam!r}, coupling={self.coupling!r}{forms.described(self)})"


def _not_built(expected: str) -> str:
    return _validation.error(
        expected,
        "a model that is not built",
        "Build it first, with keras.Input or model.build.",
    )


def _optimizer_of(model: Any) -> Any:
    if getattr(model, "optimizer", None) is None:
        raise ValueError(
            _validation.error(
                "`WeightDecay` needs the optimizer of the model.",
                "a model compiled without one",
                "Pass model.compile(optimizer=...).",
            )
        )
    return model.optimizer


def _check_optimizer(optimizer: Any) -> None:
    if optimizer is None or isinstance(optimizer, (str, keras.optimizers.Optimizer)):
        return
    raise TypeError(
        _validation.error(
            "`optimizer` must be an optimizer of the model, or the name of its attribute.",
            f"optimizer={_validation.shown(optimizer)} of type {type(optimizer).__name__}",
            'Write optimizer=model.d_optimizer or optimizer="d_optimizer".',
        )
    )


def _no_such_optimizer(name: str, held: Mapping[str, Any]) -> str:
    return _validation.error(
        "`optimizer` must name an optimizer that the model holds.",
        f"optimizer={_validation.shown(name)}",
        f"The model holds: {', '.join(held) or 'none; compile it first'}.",
    )


def _free_suffix(logs: dict[str, Any]) -> str:
    taken = sum(key == "weight_decay" or key.startswith("weight_decay_") for key in logs)
    return f"_{taken + 1}" if taken else ""
