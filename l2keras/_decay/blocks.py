"""The hook in the optimizers' updates for a block of code, and what decays in the open blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from l2keras import _validation
from l2keras._decay.groups import Group
from l2keras._decay.rules import DecayRule, Target
from l2keras._decay.updates import decayed_update
from l2keras._keras import inner_functions, optimizers, retrace

# The ids of (optimizer, variable) that decay in the blocks that are open now.
_BLOCKS: list[set[tuple[int, int]]] = []


@contextmanager
def hooked(
    rules: Iterable[DecayRule], members: Sequence[Any], hook: optimizers.StepHook
) -> Iterator[None]:
    """Runs `hook` in every update inside the block; lazily decayed rows catch up when read."""
    with ExitStack() as stack:
        for rule in rules:
            if rule.tables is not None:
                stack.enter_context(rule.tables.caught_up_on_read())
        stack.enter_context(optimizers.hooked(members, hook))
        yield


def resolve(groups: Sequence[Group], model: Any) -> dict[int, dict[int, Target]]:
    """The targets by the id of the optimizer that updates them, then by that of the variable.

    Raises:
        ValueError: a variable that two groups, or a block around, claim in the same update.
    """
    resolved: dict[int, dict[int, Target]] = {}
    for group in groups:
        targets = {id(target.variable): target for target in group.rule.targets(model)}
        for member in optimizers.inner_optimizers(group.optimizer):
            others = resolved.setdefault(id(member), {})
            _check_overlap(targets, member, others)
            others |= targets
    return resolved


def _check_overlap(targets: dict[int, Target], member: Any, others: dict[int, Target]) -> None:
    claimed = {(id(member), key) for key in others}.union(*_BLOCKS)
    if twice := [t.variable.path for key, t in targets.items() if (id(member), key) in claimed]:
        raise ValueError(_overlap(twice))


def check_traced_anew(targets: Mapping[int, Target], variables: Sequence[Any]) -> None:
    """Raises RuntimeError where the trace of an update with decay would outlive the `fit`."""
    if any(id(variable) in targets for variable in variables):
        inner_functions.check_traced_anew("`WeightDecay`")


@contextmanager
def decayed_block(group: Group, model: Any) -> Iterator[None]:
    """Decays in every update of the group's optimizer inside the block, traced or executed.

    At both ends every compiled model that holds a decayed variable traces its step anew.
    """
    resolved = resolve([group], model)
    members = optimizers.inner_optimizers(group.optimizer)
    targets = resolved[id(members[0])]
    variables = [target.variable for target in targets.values()]
    claimed = {(id(member), key) for member in members for key in targets}

    def hook(optimizer: Any, grads: Any, variables: Any, rate: Any, update: Any) -> None:
        check_traced_anew(targets, variables)
        decayed_update(targets, optimizer, grads, variables, rate, update)

    _BLOCKS.append(claimed)
    retrace.retrace(variables)
    try:
        with hooked([group.rule], members, hook):
            yield
    finally:
        _BLOCKS.remove(claimed)
        retrace.retrace(variables)
        if group.rule.tables is not None:
            group.rule.tables.settle()


def _overlap(paths: list[str]) -> str:
    return _validation.error(
        "Each variable may be decayed by one WeightDecay.",
        f"two for {', '.join(paths)}",
        "Separate the groups with include= and exclude=.",
    )
