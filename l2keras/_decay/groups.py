"""One WeightDecay in a `fit`: its rule, its optimizer, and the variables that were updated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from l2keras import _validation
from l2keras._decay.rules import DecayRule, Target
from l2keras._keras import held, inner_functions, optimizers


class Updates:
    """The variables that each optimizer has updated, at least while the step was traced."""

    def __init__(self) -> None:
        self._ids: dict[int, set[int]] = {}

    def add(self, optimizer: Any, variables: Sequence[Any]) -> None:
        """Records one update."""
        self._ids.setdefault(id(optimizer), set()).update(map(id, variables))

    def by(self, optimizer: Any) -> set[int]:
        """The ids of the variables that `optimizer`, or a member of it, has updated."""
        members = optimizers.inner_optimizers(optimizer)
        return set().union(*(self._ids.get(id(member), set()) for member in members))


class Group:
    """A WeightDecay callback, the optimizer whose updates decay, and the rule made of both."""

    def __init__(self, callback: Any, model: Any, optimizer: Any = None) -> None:
        self.callback = callback
        self.optimizer = optimizer or callback._optimizer_of(model)
        self.rule: DecayRule = callback._make_rule(model, self.optimizer)
        self._arguments = callback._arguments()
        self._watched = self._optimizers_without_known_peak()

    def refresh(self, model: Any) -> bool:
        """Follows the model's present optimizer and arguments; True where something changed."""
        optimizer = self.callback._optimizer_of(model)
        if optimizer is self.optimizer and self.is_current():
            return False
        self.optimizer, self._arguments = optimizer, self.callback._arguments()
        self.rule = self.callback._make_rule(model, optimizer)
        self._watched = self._optimizers_without_known_peak()
        return True

    def is_current(self) -> bool:
        """Whether the rule was made of the present arguments of the callback."""
        arguments = self.callback._arguments()
        return len(arguments) == len(self._arguments) and all(
            _is_same(new, old) for new, old in zip(arguments, self._arguments, strict=True)
        )

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
        if not missing:
            return
        is_named = self.callback.optimizer is not None
        others = {} if self.is_own else _updated_by_others(model, self.optimizer, missing, updates)
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


def _is_same(new: Any, old: Any) -> bool:
    """The same object, or an equal number."""
    is_number = type(new) is type(old) and isinstance(new, (int, float))
    return new is old or (is_number and bool(new == old))


def _targets_of(
    rule: DecayRule, members: Sequence[Any], resolved: Mapping[int, Mapping[int, Target]]
) -> list[Target]:
    targets = resolved.get(id(members[0]), {}) if members else {}
    return [target for target in targets.values() if target.rule is rule]


def _updated_by_others(
    model: Any, optimizer: Any, variables: Sequence[Any], updates: Updates
) -> dict[str, list[str]]:
    """The paths of the variables that another optimizer updates, by the optimizer's name."""
    found = {}
    for name, other in held.held_optimizers(model).items():
        if other is not optimizer:
            ids = updates.by(other)
            if paths := [variable.path for variable in variables if id(variable) in ids]:
                found[name] = paths
    return found


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
