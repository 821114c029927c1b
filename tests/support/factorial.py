"""Tests over every combination of several factors: pairs in the fast tier, all with `--full`.

A test names its factors once:

    @pytest.mark.factorial(mode=["graph", "jit"], rate=["constant", "schedule"], steps=[1, 4])

Without `--full`, the combinations are a covering array of strength two: each pair of values of two
factors occurs in at least one of them (allpairspy constructs it). With `--full` they are the whole
product. `possible`, a function of a dict of some of the factors, says which combinations exist, and
`affordable` which of these the fast tier may take.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from allpairspy import AllPairs

Possible = Callable[[Mapping[str, Any]], bool]
OPTIONS = ("possible", "affordable")


def combinations(
    factors: Mapping[str, Sequence[Any]],
    *,
    full: bool,
    possible: Possible = lambda _: True,
    affordable: Possible = lambda _: True,
) -> list[tuple[Any, ...]]:
    """Returns the combinations to test, each in the order of the factors.

    Args:
        factors: The values of each factor, by its name.
        full: Whether to return the whole product, or a covering array of all pairs.
        possible: Whether a combination exists. It also gets incomplete combinations.
        affordable: Whether a combination is cheap enough for a run that is not `full`.
    """
    names = list(factors)

    def exists(values: Sequence[Any]) -> bool:
        cell = dict(zip(names, values, strict=False))
        return possible(cell) and (full or affordable(cell))

    if full or len(names) < 2:
        return [values for values in itertools.product(*factors.values()) if exists(values)]
    # allpairspy compares values; positions compare equal only to themselves.
    positions = [range(len(values)) for values in factors.values()]
    levels = [list(values) for values in factors.values()]

    def at(row: Sequence[int]) -> tuple[Any, ...]:
        return tuple(level[position] for level, position in zip(levels, row, strict=False))

    rows = AllPairs([list(one) for one in positions], filter_func=lambda row: exists(at(row)))
    return [at(row) for row in rows]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full",
        action="store_true",
        help="test every combination of a factorial, not only every pair of values",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "factorial(possible=, affordable=, **values): every pair of values, or all with --full",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for mark in metafunc.definition.iter_markers("factorial"):
        factors = dict(mark.kwargs)
        options = {name: factors.pop(name) for name in OPTIONS if name in factors}
        full = metafunc.config.getoption("full")
        metafunc.parametrize(list(factors), combinations(factors, full=full, **options))
