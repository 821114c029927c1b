"""Tests over every combination of several factors: pairs in the fast tier, all with `--full`.

A test names its factors once:

    @pytest.mark.factorial(mode=["graph", "jit"], rate=["constant", "schedule"], steps=[1, 4])

Without `--full`, the combinations are a covering array of strength two: each pair of values of two
factors that can occur does so in at least one of them. With `--full` they are the whole
product. `possible`, a function of a dict of some of the factors, says which combinations exist, and
`affordable` which of these the fast tier may take. `sample` thins out the values of one factor.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest
from allpairspy import AllPairs

Possible = Callable[[Mapping[str, Any]], bool]
OPTIONS = ("possible", "affordable")
FULL = False  # whether `--full` is given; for helpers, which have no config to ask


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

    # allpairspy compares values; positions compare equal only to themselves.
    positions = [list(range(len(values))) for values in factors.values()]
    levels = list(factors.values())

    def at(row: Sequence[int]) -> tuple[Any, ...]:
        return tuple(level[position] for level, position in zip(levels, row, strict=False))

    every = [row for row in itertools.product(*positions) if exists(at(row))]
    rows = every
    if not full and len(names) > 1:
        rows = [tuple(row) for row in AllPairs(positions, filter_func=lambda row: exists(at(row)))]
        for row in every:  # allpairspy may leave out a pair that few combinations have
            if pairs([row]) - pairs(rows):
                rows.append(row)
    return [at(row) for row in rows]


def sample(values: Iterable[Any], number: int) -> list[Any]:
    """Returns all values with `--full`, else `number` of them, evenly spread, with the first."""
    every = list(values)
    if FULL or number >= len(every):
        return every
    return [every[i * len(every) // number] for i in range(number)]


def pairs(rows: Sequence[tuple[int, ...]]) -> set[tuple[tuple[int, int], tuple[int, int]]]:
    """Returns each two (factor, value) that occur in one row, by position."""
    return {pair for row in rows for pair in itertools.combinations(enumerate(row), 2)}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full",
        action="store_true",
        help="test every combination of a factorial, not only every pair of values",
    )


def pytest_configure(config: pytest.Config) -> None:
    global FULL
    FULL = config.getoption("full")
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
