"""One WeightDecay in a `fit`: its rule, its optimizer, and the variables that were updated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from l2keras import _validation
from l2keras._decay.rules import DecayRule, Target
from l2keras._keras import held, inner_functions, optimizers, own_decay


class Updates:
    """The variables that each optimizer has updated, at least while the step was traced."""

    def __init__(self) -> None:
        self._ids: dict[int, set[int]] = {}
        self._recent: dict[int, set[int]] = {}

    def add(self, optimizer: Any, variables: Sequence[Any]) -> None:
        """Records one update."""
        for ids in (self._ids, self._recent):
            ids.setdefault(id(optimizer), set()).update(map(id, variables))

    def begin_epoch(self) -> None:
        """From now on another epoch counts for `lately_by`."""
        self._recent = {}

    def by(self, optimizer: Any) -> set[int]:
        """The ids of the variables that `optimizer`, or a member of it, has updated."""
        return _union(self._ids, optimizer)

    def lately_by(self, optimizer: Any) -> set[int]:
        """The same, in this epoch; of use where each step runs in Python."""
        return _union(self._recent, optimizer)


def _union(ids: Mapping[int, set[int]], optimizer: Any) -> set[int]:
    members = optimizers.inner_optimizers(optimizer)
    return set().union(*(ids.get(id(member), set()) for member in members))


class Group:
    """A WeightDecay callback, the optimizer whose updates decay, and the rule made of both."""

    def __init__(self, callback: Any, model: Any, optimizer: Any = None) -> None:
        self.callback = callback
        self._take(model, optimizer or callback._optimizer_named(model))

    def _take(self, model: Any, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.rule: DecayRule = self.callback._make_rule(model, optimizer)
        self._arguments = self.callback._arguments()
        self._rates = _rates(optimizer)
        self._given = self.callback.optimizer
        is_object = self._given is not None and not isinstance(self._given, str)
        self._place = held.place_of(model, optimizer) if is_object else None
        self._watched = self._optimizers_without_known_peak()

    def refresh(self, model: Any) -> bool:
        """Follows the model's present optimizer and arguments; True where something changed."""
        if not self.is_outdated(model):
            return False
        self._take(model, self.present_optimizer(model))
        return True

    def is_outdated(self, model: Any) -> bool:
        """Whether the optimizer, its learning rate's source or an argument is another one now."""
        optimizer = self.present_optimizer(model)
        if optimizer is not self.optimizer or not self.is_current():
            return True
        return not _are_same(_rates(optimizer), self._rates)

    def is_current(self) -> bool:
        """Whether the rule was made of the present arguments of the callback."""
        return _are_same(self.callback._arguments(), self._arguments)

    def acts_as(self, other: Group) -> bool:
        """Whether a step that was traced with `other` decays as this group does."""
        return (
            self.optimizer is other.optimizer
            and self.rule == other.rule
            and _are_same(self._arguments, other._arguments)
            and _are_same(self._rates, other._rates)
        )

    def present_optimizer(self, model: Any) -> Any:
        """The optimizer of now: for one that was passed itself, what took its place."""
        given = self.callback.optimizer
        if given is not self._given or given is None or isinstance(given, str):
            return self.callback._optimizer_named(model)
        if self._place is None:
            return self.optimizer
        now = self._place.now()
        if not isinstance(now, keras.optimizers.Optimizer) or self._is_in(now):
            return self.optimizer
        if moved := held.place_of(model, self.optimizer):
            self._place = moved
            return self.optimizer
        return now

    def _is_in(self, optimizer: Any) -> bool:
        members = [optimizer, *optimizers.inner_optimizers(optimizer)]
        return any(member is self.optimizer for member in members)

    @property
    def is_own(self) -> bool:
        """Whether it decays what its optimizer updates, which is known once that is built."""
        return self.callback.optimizer is not None and self.callback.include is None

    def _optimizers_without_known_peak(self) -> list[Any]:
        """Those whose peak was taken from the learning rate that `fit` began with."""
        if not self.rule.peaks or self.callback.peak_learning_rate is not None:
            return []
        members = optimizers.inner_optimizers(self.optimizer)
        return [member for member in members if not optimizers.has_schedule(member)]

    def check_peak(self) -> None:
        """Raises where a learning rate was set above what counts as its peak."""
        for member in self._watched:
            rate, peak = optimizers.settable_learning_rate(member), self.rule.peaks[id(member)]
            if rate is not None and rate > peak * (1 + 1e-6):
                raise ValueError(_above_peak(rate, peak))

    def check_updates(
        self,
        model: Any,
        resolved: Mapping[int, Mapping[int, Target]],
        updates: Updates,
        is_complete: bool,
    ) -> None:
        """Raises where what is to decay was not updated by the group's optimizer."""
        members = optimizers.inner_optimizers(self.optimizer)
        variables = [target.variable for target in _targets_of(self.rule, members, resolved)]
        own = updates.by(self.optimizer)
        missing = [variable for variable in variables if id(variable) not in own]
        self._check_no_decay(model, [one for one in variables if id(one) in own], updates)
        if not missing:
            return
        is_named = self.callback.optimizer is not None
        others = {} if self.is_own else self._others(model, missing, updates.by)
        if others:
            if own or not _is_foreign(model, self.callback.optimizer):
                raise RuntimeError(_updated_elsewhere(others, self.callback))
            raise RuntimeError(_never_reached(model, self.callback.optimizer, members[0]))
        if not optimizers.must_have_updated(self.optimizer):
            return
        if len(missing) == len(variables) and (is_complete or not is_named):
            raise RuntimeError(_never_reached(model, self.callback.optimizer, members[0]))
        if is_complete and not self.is_own:
            raise RuntimeError(_not_updated(model, [variable.path for variable in missing]))

    def check_epoch(
        self, model: Any, resolved: Mapping[int, Mapping[int, Target]], updates: Updates
    ) -> None:
        """Raises where in this epoch another optimizer updated what is to decay, and not this one.

        Of use where each step runs in Python: a later epoch may take another path than the first.
        """
        if self.is_own:
            return
        members, lately = optimizers.inner_optimizers(self.optimizer), updates.lately_by
        targets = _targets_of(self.rule, members, resolved)
        missing = [t.variable for t in targets if id(t.variable) not in lately(self.optimizer)]
        others = self._others(model, missing, lately)
        for name, optimizer in held.held_optimizers(model).items():
            decayed = [resolved.get(id(one), {}) for one in optimizers.inner_optimizers(optimizer)]
            if any(id(variable) in ids for variable in missing for ids in decayed):
                others.pop(name, None)
        if others:
            raise RuntimeError(_updated_elsewhere(others, self.callback))

    def _check_no_decay(self, model: Any, variables: Sequence[Any], updates: Updates) -> None:
        """Raises where an optimizer that updates one of the variables decays it by itself."""
        optimizers.check_no_decay(self.optimizer)
        for name, other in held.held_optimizers(model).items():
            for member in optimizers.inner_optimizers(other):
                ids = updates.by(member)
                for variable in variables:
                    if id(variable) in ids and own_decay.own_decay(member, variable):
                        where = f", the model's `{name}`, which updates {variable.path} too"
                        optimizers.check_no_decay(member, where)

    def _others(
        self, model: Any, variables: Sequence[Any], updated_by: Callable[[Any], set[int]]
    ) -> dict[str, list[str]]:
        """The paths of the variables that another optimizer updates, by the optimizer's name."""
        found = {}
        for name, other in held.held_optimizers(model).items():
            if other is not self.optimizer:
                ids = updated_by(other)
                if paths := [variable.path for variable in variables if id(variable) in ids]:
                    found[name] = paths
        return found


def _rates(optimizer: Any) -> tuple[Any, ...]:
    """What the learning rates come from, and what a schedule of Keras computes them with."""
    rates: list[Any] = []
    for member in optimizers.inner_optimizers(optimizer):
        source = optimizers.learning_rate_source(member)
        rates += [source, *(optimizers.settings_of_schedule(source) or ())]
    return tuple(rates)


def _are_same(new: Sequence[Any], old: Sequence[Any]) -> bool:
    return len(new) == len(old) and all(map(_is_same, new, old))


def _is_same(new: Any, old: Any) -> bool:
    """The same object, or an equal number or string."""
    is_plain = type(new) is type(old) and isinstance(new, (int, float, str))
    return new is old or (is_plain and bool(new == old))


def _targets_of(
    rule: DecayRule, members: Sequence[Any], resolved: Mapping[int, Mapping[int, Target]]
) -> list[Target]:
    targets = resolved.get(id(members[0]), {}) if members else {}
    return [target for target in targets.values() if target.rule is rule]


def _updated_elsewhere(others: Mapping[str, Sequence[str]], callback: Any) -> str:
    own = callback.optimizer if isinstance(callback.optimizer, str) else "optimizer"
    parts = [f"{', '.join(paths)}, which `{name}` updates" for name, paths in others.items()]
    name = next(iter(others))
    return _validation.error(
        f"This `WeightDecay` acts in the updates of the model's `{own}`.",
        "; ".join(parts),
        f'Pass one callback for each optimizer: WeightDecay(lam, optimizer="{name}").',
    )


def _never_reached(model: Any, named: Any, optimizer: Any) -> str:
    kind = type(optimizer).__name__
    received = f"optimizer={named!r}, a {kind}" if isinstance(named, str) else f"optimizer={kind}"
    remedies = []
    if _is_foreign(model, named):
        received += ", which the model does not hold (pickle and copy make another one)"
        names = ", ".join(held.held_optimizers(model)) or "none"
        remedies.append(f"Pass the name of one, optimizer='...'; the model holds: {names}.")
    if functions := inner_functions.compiled_functions(model):
        received += f", in a model with the tf.function {', '.join(functions)}"
        remedies.append(f"{inner_functions.REMEDY}; one traced before this `fit` has no decay.")
    remedies.append(
        "Use an optimizer whose `apply` calls keras.optimizers.Optimizer.apply; for one that the "
        "train_step holds elsewhere pass WeightDecay(lam, optimizer=that_optimizer)."
    )
    return _validation.error(
        "`WeightDecay` acts through Keras' own update, which this optimizer never ran.",
        received,
        " ".join(remedies),
    )


def _is_foreign(model: Any, named: Any) -> bool:
    """Whether an optimizer was passed that the model does not hold, such as a copy."""
    if named is None or isinstance(named, str):
        return False
    holding = held.held_optimizers(model).values()
    known = [member for one in holding for member in (one, *optimizers.inner_optimizers(one))]
    return all(one is not named for one in known)


def _not_updated(model: Any, paths: Sequence[str]) -> str:
    causes = ["no gradient", "another optimizer"]
    causes += [
        f"the tf.function {name}, if it was traced before"
        for name in inner_functions.compiled_functions(model)
    ]
    return _validation.error(
        "`WeightDecay` decays a variable when the optimizer updates it.",
        f"{', '.join(paths)}, which no step updated ({', or '.join(causes)})",
        f"Leave them out: exclude={list(paths)!r}; or pass the optimizer that updates them: "
        "optimizer=.",
    )


def _above_peak(rate: float, peak: float) -> str:
    return _validation.error(
        'coupling="independent" and `corrected` divide by the peak of the learning rate.',
        f"learning rate {rate:.6g}, above the {peak:.6g} that `fit` began with",
        "Pass peak_learning_rate=.",
    )
