"""Puts decay into a model's compiled train step for the length of one `fit`.

Keras calls `model.make_train_function()` at the start of every `fit` and `train_on_batch`,
then `on_train_begin`, then `model.train_function(...)` for every batch. `on_train_begin`
installs a `DecayedTrainFunction` in the place of Keras' own function; the next
`make_train_function()` takes it out again, whatever happened in between, so that a `fit`
that ended in an exception leaves nothing behind.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from l2keras import _validation
from l2keras._decay.rules import DecayRule, Target
from l2keras._decay.updates import decayed_update
from l2keras._keras import optimizers, retrace
from l2keras._keras.variables import is_built

# What the blocks decay that are open now: `WeightDecay.in_step`.
_BLOCKS: list[Mapping[int, Target]] = []


class DecayedTrainFunction:
    """Stands in for `model.train_function` while WeightDecay callbacks train the model."""

    def __init__(self, model: Any, previous: DecayedTrainFunction | None) -> None:
        self.callbacks: list[Any] = []  # those that asked for a rule
        self.reached = False  # has the optimizer run the hook, at least while tracing?
        self._model = model
        self._optimizer = model.optimizer
        self._keras_function = model.train_function
        self.keras_reference: Callable[[], Any] = _nothing
        self._make_keras_function = model.make_train_function
        self._previous = previous
        self._rules: list[DecayRule] = []
        self._targets: Mapping[int, Target] | None = None
        self._compiled: Callable[..., Any] | None = None
        self._install()

    def add(self, rule: DecayRule) -> None:
        """Adds a group; raises at once where patterns match nothing or groups overlap."""
        self._rules.append(rule)
        if is_built(self._model):
            self._targets = resolve(self._rules, self._model)

    def __call__(self, *args: Any) -> Any:
        if self._compiled is None:
            self._compiled = self._reusable() or self._fresh()
        with hooked(self._rules, self._optimizer, self._hook):
            try:
                return self._compiled(*args)
            except BaseException:  # the end of a dataset of unknown length, or of the training
                self._settle()
                raise

    def _install(self) -> None:
        self._model.train_function = self
        vars(self._model)["make_train_function"] = self._make_train_function

    def install_again(self) -> None:
        """Takes its place back in mid fit, after a callback's `train_on_batch` took it out."""
        installed = self._model.train_function
        if installed is not self and installed is not None:
            self._keras_function = installed
            self._install()

    def uninstall(self) -> None:
        """Puts Keras' own function back, unless `compile` has dropped it since."""
        self._settle()  # what an interrupted fit left
        vars(self._model).pop("make_train_function", None)
        if self._model.train_function is self:
            self._model.train_function = self._keras_function
        if self._keras_function is not None:
            # Not held any longer: jax.jit would share the trace of an old step with a new one.
            self.keras_reference = _reference(self._keras_function)
            self._keras_function = None

    def _make_train_function(self, force: bool = False) -> Any:
        if not force:  # the start of another fit: WeightDecay installs itself again, or is gone
            self.uninstall()
            return self._model.make_train_function()
        # A callback asks for a retrace in mid-fit, say after unfreezing layers.
        self._keras_function = self._compiled = self._targets = self._previous = None
        return self

    def _fresh(self) -> Callable[..., Any]:
        """A train function of Keras' own making that has not been traced yet."""
        model, keras_step = self._model, self._model.train_step

        def train_step(*args: Any) -> Any:
            # jax.jit shares its cache among equal functions: this one equals no other.
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
        return compiled

    def _reusable(self) -> Callable[..., Any] | None:
        """The function compiled in an earlier fit, if nothing that it was traced with changed."""
        previous, self._previous = self._previous, None
        if previous is None or previous.keras_reference() is not self._keras_function:
            return None
        if self._traced_with() != previous._traced_with():
            return None
        self.reached = previous.reached
        return previous._compiled

    def _traced_with(self) -> tuple[Any, ...]:
        # compile() drops Keras' function, so its identity stands for all else that compile sets.
        ids = None if self._targets is None else list(self._targets)
        return self._optimizer, self._rules, ids

    def _settle(self) -> None:
        for rule in self._rules:
            if rule.tables is not None:
                rule.tables.settle()

    def _hook(self, *update: Any) -> None:
        self.reached = True
        if self._targets is None:
            self._targets = resolve(self._rules, self._model)
        decayed_update(self._targets, *update)


def _nothing() -> None:
    """A reference to nothing."""


def _reference(function: Any) -> Callable[[], Any]:
    """A weak reference, where the function takes one."""
    try:
        return weakref.ref(function)
    except TypeError:
        return _nothing


@contextmanager
def hooked(rules: Sequence[DecayRule], optimizer: Any, hook: optimizers.StepHook) -> Iterator[None]:
    """Runs `hook` in every update inside the block; lazily decayed rows catch up when read."""
    with ExitStack() as stack:
        for rule in rules:
            if rule.tables is not None:
                stack.enter_context(rule.tables.caught_up_on_read())
        inner = optimizers.inner_optimizers(optimizer)
        stack.enter_context(optimizers.hooked(inner, hook))
        yield


def resolve(rules: Sequence[DecayRule], model: Any) -> dict[int, Target]:
    """What is decayed, and how, by the id of the variable.

    Raises:
        ValueError: a variable that two rules claim, or a block around.
    """
    targets: dict[int, Target] = {}
    for rule in rules:
        found = {id(target.variable): target for target in rule.targets(model)}
        taken = targets.keys() | {key for block in _BLOCKS for key in block}
        if overlap := [target.variable.path for key, target in found.items() if key in taken]:
            raise ValueError(_overlap(overlap))
        targets |= found
    return targets


@contextmanager
def decayed_block(rule: DecayRule, model: Any, optimizer: Any) -> Iterator[None]:
    """Decays in every update of `optimizer` inside the block, traced or executed.

    Steps that Keras has compiled for `train_on_batch` are traced anew at both ends.
    """
    targets = resolve([rule], model)
    _BLOCKS.append(targets)
    retrace.forget_steps(model)
    try:
        with hooked([rule], optimizer, lambda *update: decayed_update(targets, *update)):
            yield
    finally:
        _BLOCKS.remove(targets)
        retrace.forget_steps(model)
        if rule.tables is not None:
            rule.tables.settle()


def _overlap(paths: list[str]) -> str:
    return _validation.error(
        "Each variable may be decayed by one WeightDecay.",
        f"two for {', '.join(paths)}",
        "Separate the groups with include= and exclude=.",
    )
