"""Puts decay into a model's compiled train step for the length of one `fit`.

Keras calls `model.make_train_function()` at the start of every `fit` and `train_on_batch`,
then `on_train_begin`, then `model.train_function(...)` for every batch. `on_train_begin`
installs a `DecayedTrainFunction` in the place of Keras' own function; the next
`make_train_function()` takes it out again, whatever happened in between, so that a `fit`
that ended in an exception leaves nothing behind.

`refresh` follows what other callbacks change in mid-fit: the optimizer, the arguments of a
WeightDecay, the train function that Keras made.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from l2keras._decay.blocks import check_traced_anew, hooked, resolve
from l2keras._decay.groups import Group, Updates
from l2keras._decay.rules import Target
from l2keras._decay.traced import TracedLam, traced_lams
from l2keras._decay.updates import decayed_update
from l2keras._keras import inner_functions, retrace
from l2keras._keras.held import held_optimizers
from l2keras._keras.optimizers import build_for_jax, check_no_decay, inner_optimizers
from l2keras._keras.state import State
from l2keras._keras.variables import has_variables, is_built
from l2keras.regularizers import terms_of


class DecayedTrainFunction:
    """Stands in for `model.train_function` while WeightDecay callbacks train the model."""

    def __init__(self, model: Any, previous: DecayedTrainFunction | None) -> None:
        self.groups: list[Group] = []
        self.version = 0  # of the step: one more whenever it is to be traced anew
        self._model = model
        self.keras_function = model.train_function
        self.keras_reference: Callable[[], Any] = _nothing
        self._make_keras_function = model.make_train_function
        self._previous = previous
        self.updates = Updates()
        self._targets: dict[int, dict[int, Target]] | None = None
        self._others: list[Any] = []
        self._is_resolved = False
        self._penalties: list[Any] = []
        self._lams: list[TracedLam] = []
        self._compiled: Callable[..., Any] | None = None
        self._is_checked = False
        self.state = State(model)
        self._install()

    def add(self, group: Group) -> None:
        """Adds a group; raises at once where patterns match nothing or groups overlap."""
        self.groups.append(group)
        self._resolve()

    def _resolve(self) -> None:
        """Resolves the groups as far as there are variables; a step may build other layers."""
        self._is_resolved = is_built(self._model)
        if has_variables(self._model):
            self._targets = resolve(self.groups, self._model)

    def group_of(self, callback: Any) -> Group:
        """The group of one of the callbacks."""
        return next(group for group in self.groups if group.callback is callback)

    def find_group(self, callback: Any) -> Group | None:
        """The group of the callback; None before it is added."""
        return next((group for group in self.groups if group.callback is callback), None)

    def __call__(self, *args: Any) -> Any:
        args = self._refreshed(args)
        self.state.begin()
        with hooked([group.rule for group in self.groups], self._hooked_optimizers(), self._hook):
            try:
                assert self._compiled is not None
                result = self._compiled(*args)
            except BaseException:  # the end of a dataset of unknown length, or of the training
                self._settle()
                raise
        self.state.end(result)
        return result

    def _refreshed(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Follows what a later callback changed in `on_train_batch_begin`; the arguments to use.

        On JAX the values are in the arguments by now: they go back into the variables meanwhile.
        """
        if not self.state.is_taken_out:
            self.refresh()
            return args
        if self._compiled is not None and not self._is_outdated():
            return args
        self.state.put_back(args[0])
        self.refresh()
        return self.state.take_out(), *args[1:]

    def _is_outdated(self) -> bool:
        return any(group.is_outdated(self._model) for group in self.groups)

    def begin_epoch(self) -> None:
        """Each step that runs in Python may be another one: so what an epoch updates counts."""
        if self._compiled is not None and not retrace.is_traced(self._model):
            self.updates.begin_epoch()
            self._find_others()

    def refresh(self) -> None:
        """Follows what changed since the last step, and compiles the step where it has to.

        On JAX this has to happen before a step takes the values out of the variables: WeightDecay
        calls it in `on_train_batch_begin`.
        """
        self._install_again()
        if self._is_outdated():
            retrace.sync_state(self._model)
            for group in self.groups:
                group.refresh(self._model)
            self._forget()
        for group in self.groups:
            group.check_peak()
            check_no_decay(group.optimizer)
        if self._compiled is None:
            retrace.sync_state(self._model)
            build_for_jax(self._model)
            self._find_others()
            self._penalties = _penalties(self._model)
            self._compiled = self._reusable() or self._fresh()

    def check_lams(self) -> None:
        """Raises where the compiled step decays by another lam than a callable has by now."""
        if self._lams:
            retrace.sync_state(self._model)
        for lam in self._lams:
            lam.check()

    def check_first_step(self) -> None:
        """Raises after the first step where it shows that something does not decay.

        Not inside of it: on JAX Keras would lose the weights.
        """
        if not self._is_checked:
            self._is_checked = True
            if any(group.optimizer.gradient_accumulation_steps for group in self.groups):
                retrace.sync_state(self._model)  # the count of updates is asked for
            self.check_updates(is_complete=retrace.is_traced(self._model))

    def check_updates(self, *, is_complete: bool = True) -> None:
        """Raises where a variable that is to decay was not updated by the group's optimizer.

        Args:
            is_complete: True where each variable must have been updated by now; else only what
                is wrong in any case raises.
        """
        if self._targets is None:
            return
        for group in self.groups:
            group.check_updates(self._model, self._targets, self.updates, is_complete)
            if is_complete and not retrace.is_traced(self._model):
                group.check_epoch(self._model, self._targets, self.updates)

    def _find_others(self) -> None:
        """The members of every optimizer that the model holds beside those of the groups."""
        held = held_optimizers(self._model).values()
        self._others = [member for one in held for member in inner_optimizers(one)]

    def _hooked_optimizers(self) -> list[Any]:
        own = [member for group in self.groups for member in inner_optimizers(group.optimizer)]
        return list({id(member): member for member in [*own, *self._others]}.values())

    def _hook(self, optimizer: Any, grads: Any, variables: Any, rate: Any, update: Any) -> None:
        self.updates.add(optimizer, variables)
        if self._targets is None or not self._is_resolved:  # what is called is built by now
            self._targets, self._is_resolved = resolve(self.groups, self._model), True
        targets = self._targets.get(id(optimizer))
        if targets:
            check_traced_anew(targets, variables)
            decayed_update(targets, optimizer, grads, variables, rate, update)
        else:
            update(grads, variables, rate)

    def _forget(self) -> None:
        """The step is to be traced anew."""
        self._compiled = self._targets = self._previous = None
        self.updates, self._is_checked = Updates(), False
        self.version += 1
        self._resolve()

    def _install(self) -> None:
        self._model.train_function = self
        vars(self._model)["make_train_function"] = self._make_train_function

    def _install_again(self) -> None:
        """Takes its place back after a callback's `train_on_batch` or `compile` took it out."""
        installed = self._model.train_function
        if installed is self or installed is None:
            return
        if installed is not self.keras_reference():  # `compile` dropped the one put aside
            self._forget()
        self.keras_function = installed
        self._install()

    def uninstall(self) -> None:
        """Puts Keras' own function back, unless `compile` has dropped it since."""
        self._settle()  # what an interrupted fit left
        self.state = State(self._model)
        vars(self._model).pop("make_train_function", None)
        if self._model.train_function is self:
            self._model.train_function = self.keras_function
        if self.keras_function is not None:
            # Not held any longer: jax.jit would share the trace of an old step with a new one.
            self.keras_reference = _reference(self.keras_function)
            self.keras_function = None

    def _make_train_function(self, force: bool = False) -> Any:
        if not force:  # the start of another fit: WeightDecay installs itself again, or is gone
            self.uninstall()
            return self._model.make_train_function()
        # A callback asks for a retrace in mid-fit, say after unfreezing layers or `compile`.
        self.keras_function = None
        self._forget()
        self._install()
        return self

    def _fresh(self) -> Callable[..., Any]:
        """A train function of Keras' own making that has not been traced yet."""
        model, keras_step = self._model, self._model.train_step

        def train_step(*args: Any) -> Any:
            # jax.jit shares its cache among equal functions: this one equals no other.
            with inner_functions.step():
                return keras_step(*args)

        kept = {key: value for key, value in vars(model).items() if key == "train_step"}
        vars(model)["train_step"] = train_step
        model.train_function = None
        try:
            self._make_keras_function()
            compiled: Callable[..., Any] = model.train_function
        finally:
            model.train_function = self
            del vars(model)["train_step"]
            vars(model).update(kept)
        rules = [group.rule for group in self.groups]
        members = [inner_optimizers(group.optimizer)[0] for group in self.groups]
        self._lams = traced_lams(rules, members, model)
        return compiled

    def _reusable(self) -> Callable[..., Any] | None:
        """The function compiled in an earlier fit, if nothing that it was traced with changed."""
        previous, self._previous = self._previous, None
        if previous is None or previous.keras_reference() is not self.keras_function:
            return None
        groups = len(self.groups) == len(previous.groups) and all(
            map(Group.acts_as, self.groups, previous.groups)
        )
        if not groups or self._traced_with() != previous._traced_with():
            return None
        if any(lam.is_stale() for lam in previous._lams):
            return None
        self.updates, self._lams = previous.updates, previous._lams
        return previous._compiled

    def _traced_with(self) -> tuple[Any, ...]:
        # compile() drops Keras' function, so its identity stands for all else that compile sets.
        ids = {key: list(targets) for key, targets in (self._targets or {}).items()}
        return ids, self._penalties

    def _settle(self) -> None:
        for group in self.groups:
            if group.rule.tables is not None:
                group.rule.tables.settle()


def _penalties(model: Any) -> list[Any]:
    """The regularizers and their coefficients, which a compiled step does not read again."""
    regularizers = [variable.regularizer for variable in model.trainable_variables]
    return [(regularizer, terms_of(regularizer)) for regularizer in regularizers]


def _nothing() -> None:
    """A reference to nothing."""


def _reference(function: Any) -> Callable[[], Any]:
    """A weak reference, where the function takes one."""
    try:
        return weakref.ref(function)
    except TypeError:
        return _nothing
