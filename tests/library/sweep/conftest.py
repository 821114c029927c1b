"""Fixtures of the tests of `sweep`."""

from __future__ import annotations

import pytest


@pytest.fixture
def two_stacks(stacks: set[int], monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The same as `stacks`, with as few members in a stack as `SIZE` has.

    The members of `SIZE.lams`, an odd number, are trained in two stacks of one size. The second
    stack repeats a member to reach that size.
    """
    from l2keras._sweep import stacking
    from tests.support.sweeps import SIZE

    monkeypatch.setattr(stacking, "LEAST", SIZE.least)
    return stacks
