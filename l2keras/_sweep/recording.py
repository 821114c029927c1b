"""A step on torch as the bare operations that it consists of, where these do the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from l2keras._sweep import interrupts

MOST = 3000  # calls of torch's operations: a third is recorded, which takes a second

# What torch, Keras and layers raise where it cannot be done; a signal may raise anything else.
FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
            ValueError)  # fmt: skip

# (rows, values, data): a step on these examples of `data`, which writes `values` in place
Recordable = Callable[[Any, Sequence[Any], Any], None]

_logger = logging.getLogger("l2keras")


def record(step: Recordable, rows: Any, values: Sequence[Any], data: Any) -> Recordable | None:
    """The operations of `step`, to be called as it is; None where they would not do the same.

    A copy of `values` is stepped. Not recorded is what has many operations; where numbers decide
    what is done, or how large something is, which a step on tensors without numbers tells; and
    where Python counts, or draws numbers, or takes one from a tensor: that step is compared, to the
    last bit, on other examples and from other weights than those that were recorded.
    """
    try:
        _check(step, rows, values, data)
        recorded: Recordable = _operations(step, rows, values, data)
        if not _does_the_same(recorded, step, rows, values, data):
            raise ValueError("it does something else in another step")
    except FAILURES as error:
        if interrupts.comes_from_handler(error):
            raise
        why = " ".join(str(error).split())[:300]
        _logger.info("A step of torch is not recorded: %s: %s", type(error).__name__, why)
        return None
    return recorded


def _check(step: Recordable, *arguments: Any) -> None:
    """Raises RuntimeError where the step needs numbers, or is long."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_map

    class Counted(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.count += 1
            if self.count > MOST:
                raise RuntimeError(f"it has more than {MOST} operations")
            return function(*args, **(kwargs or {}))

    without_numbers = FakeTensorMode(allow_non_fake_inputs=True)
    fakes = tree_map(without_numbers.from_tensor, arguments)
    with without_numbers, Counted():
        step(*fakes)


def _operations(step: Recordable, rows: Any, values: Sequence[Any], data: Any) -> Any:
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(step)(torch.zeros_like(rows), _copies(values), data)


def _does_the_same(
    recorded: Any, step: Recordable, rows: Any, values: Sequence[Any], data: Any
) -> bool:
    import torch

    expected = _copies(values)
    step(rows, expected, data)
    actual = _copies(expected)
    with torch.random.fork_rng():  # random numbers are the same, too
        torch.manual_seed(0)
        step(rows, expected, data)
        torch.manual_seed(0)
        recorded(rows, actual, data)
    return all(
        bool(((a == e) | (a.isnan() & e.isnan())).all())
        for a, e in zip(actual, expected, strict=True)
    )


def _copies(values: Sequence[Any]) -> list[Any]:
    return [value.detach().clone() for value in values]
