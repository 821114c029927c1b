"""Fixtures of the tests of `sweep`."""

from __future__ import annotations

import pytest


@pytest.fixture
def few(stacks: set[int], monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The same as `stacks`, where three members are two stacks of two seats, one of them spare."""
    from l2keras._sweep import stacking

    monkeypatch.setattr(stacking, "LEAST", 1)
    return stacks
