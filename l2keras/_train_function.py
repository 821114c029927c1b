"""Puts decay into a model's compiled train step for the length of one `fit`.

Keras calls `model.make_train_function()` at the start of every `fit` and `train_on_batch`,
then `on_train_begin`, then `model.train_function(...)` for every batch. `on_train_begin`
installs a `DecayedTrainFunction` in the place of Keras' own function; the next
`make_train_function()` takes it out again, whatever happened in between, so that a `fit`
that ended in an exception leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from l2keras import _optimizers, _validation, masks, penalties
from l2keras._variables import is_built

Lam: TypeAlias = float | Callable[[Any], Any]  # a LearningRateSchedule is such a callable


@dataclass(frozen=True)
class DecayRule:
    """What one WeightDecay callback asks for."""

    lam: Lam
    coupling: str
    include: masks.Patterns
    exclude: masks.Patterns
    peak: float | None  # of the learning rate; for coupling="independent" only

    def lam_at(self, step: Any) -> Any:
        """lam at `step`, the count of updates: a Python float, or a tensor for a schedule."""
        if isinstance(self.lam, float):
            return self.lam
        if isinstance(self.lam, LearningRateSchedule):
            return self.lam(step)
        return self.lam(ops.cast(step, keras.backend.floatx()))

    def relative_rate(self, learning_rate: Any, dtype: str) -> Any:
        """The learning rate that multiplies lam, cast to `dtype`: eta, or eta / peak."""
        rate = ops.cast(learning_rate, dtype)
        return rate if self.peak is None else rate / self.peak


class DecayedTrainFunction:
    """Stands in for `model.train_function` while WeightDecay callbacks train the model."""

    def __init__(self, model: Any, previous: DecayedTrainFunction | None) -> None:
        self.callbacks: list[Any] = []  # those that asked for a rule
        self.reached = False  # has the optimizer run the hook, at least while tracing?
        self._model = model
        self._optimizer = model.optimizer
        self._keras_function = model.train_function
        self._make_keras_function = model.make_train_function
        self._previous = previous
        self._rules: list[DecayRule] = []
        self._groups: list[tuple[DecayRule, set[int]]] | None = None
        self._compiled: Callable[..., Any] | None = None
        self._install()

    def add(self, rule: DecayRule) -> None:
        """Adds a group; raises at once where patterns match nothing or groups overlap."""
        self._rules.append(rule)
        if is_built(self._model):
            self._groups = self._resolve()

    def __call__(self, *args: Any) -> Any:
        if self._compiled is None:
            self._compiled = self._reusable() or self._fresh()
        with _optimizers.hooked(_optimizers.inner_optimizers(self._optimizer), self._hook):
            return self._compiled(*args)

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
        vars(self._model).pop("make_train_function", None)
        if self._model.train_function is self:
            self._model.train_function = self._keras_function

    def _make_train_function(self, force: bool = False) -> Any:
        if not force:  # the start of another fit: WeightDecay installs itself again, or is gone
            self.uninstall()
            return self._model.make_train_function()
        # A callback asks for a retrace in mid-fit, say after unfreezing layers.
        self._keras_function = self._compiled = self._groups = self._previous = None
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
        if previous is None or self._traced_with() != previous._traced_with():
            return None
        self.reached = previous.reached
        return previous._compiled

    def _traced_with(self) -> tuple[Any, ...]:
        # compile() drops Keras' function, so its identity stands for all that compile sets.
        return self._keras_function, self._optimizer, self._rules, self._groups

    def _resolve(self) -> list[tuple[DecayRule, set[int]]]:
        groups: list[tuple[DecayRule, set[int]]] = []
        seen: dict[int, Any] = {}
        for rule in self._rules:
            chosen = {id(v): v for v in masks.select(self._model, rule.include, rule.exclude)}
            if overlap := [v.path for key, v in chosen.items() if key in seen]:
                raise ValueError(_overlap(overlap))
            seen |= chosen
            groups.append((rule, set(chosen)))
        return groups

    def _hook(
        self, optimizer: Any, grads: Sequence[Any], variables: Sequence[Any], learning_rate: Any
    ) -> Sequence[Any]:
        self.reached = True
        if self._groups is None:
            self._groups = self._resolve()
        for rule, ids in self._groups:
            mask = [id(variable) in ids for variable in variables]
            if rule.coupling == "coupled":
                grads = _add_penalty_gradient(rule, optimizer, grads, variables, mask)
            else:
                chosen = [v for v, decayed in zip(variables, mask, strict=True) if decayed]
                _shrink(rule, optimizer, chosen, learning_rate)
        return grads


def _add_penalty_gradient(
    rule: DecayRule,
    optimizer: Any,
    grads: Sequence[Any],
    variables: Sequence[Any],
    mask: list[bool],
) -> list[Any]:
    """grad + lam * W where the mask is True; divided among the replicas that will be summed."""
    lam = rule.lam_at(optimizer.iterations)
    replicas = _optimizers.num_replicas()
    return [
        ops.add(grad, penalties.penalty_gradient(variable, _as(lam, variable.dtype) / replicas))
        if decayed
        else grad
        for grad, variable, decayed in zip(grads, variables, mask, strict=True)
    ]


def _shrink(rule: DecayRule, optimizer: Any, variables: Sequence[Any], learning_rate: Any) -> None:
    """W <- (1 - eta * lam) * W, each factor computed once for each dtype."""
    lam = rule.lam_at(optimizer.iterations)
    dtypes = [penalties.accumulation_dtype(variable.dtype) for variable in variables]
    factors = {
        dtype: penalties.shrink_factor(rule.relative_rate(learning_rate, dtype), _as(lam, dtype))
        for dtype in set(dtypes)
    }
    _optimizers.scale_variables(optimizer, variables, [factors[dtype] for dtype in dtypes])


def _as(lam: Any, dtype: str) -> Any:
    """A Python float as it is (exact in any dtype), a tensor cast to `dtype`."""
    return lam if isinstance(lam, (int, float)) else ops.cast(lam, dtype)


def _overlap(paths: list[str]) -> str:
    return _validation.error(
        "Each variable may be decayed by one WeightDecay callback.",
        f"two callbacks for {', '.join(paths)}",
        "Separate the groups with include= and exclude=.",
    )
