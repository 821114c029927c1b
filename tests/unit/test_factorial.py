"""Every pair of values occurs in the fast tier, and with `--full` every combination."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.factorial import combinations, pairs

Factors = dict[str, list[Any]]

SETS: dict[str, Factors] = {
    "one factor": {"a": [1, 2, 3]},
    "two factors": {"a": [1, 2, 3], "b": ["x", "y"]},
    "five factors": {"a": [1, 2, 3], "b": [1, 4], "c": [1, 2], "d": ["x", "y", "z"], "e": [8, 9]},
    "one value": {"a": [1], "b": [1, 2], "c": [1, 2, 3]},
    "equal values": {"a": [1, True, 1.0], "b": [0, False], "c": [1, 2]},
    "unhashable values": {"a": [{"k": 1}, {"k": 2}], "b": [[], [1]], "c": [{}, {"l": 3}, {"m": 4}]},
}


def positions(rows: list[tuple[Any, ...]], factors: Factors) -> list[tuple[int, ...]]:
    """Returns each row as the positions of its values, compared by identity."""
    return [
        tuple(
            next(n for n, one in enumerate(values) if one is value)
            for value, values in zip(row, factors.values(), strict=True)
        )
        for row in rows
    ]


def product(factors: Factors) -> list[tuple[int, ...]]:
    """Returns every combination, as positions."""
    return list(itertools.product(*(range(len(values)) for values in factors.values())))


@pytest.mark.parametrize("name", SETS)
def test_every_pair_of_values_occurs(name: str) -> None:
    """The pairs of the fast tier are those of the whole product, in no more rows."""
    factors = SETS[name]
    rows = positions(combinations(factors, full=False), factors)
    assert pairs(rows) == pairs(product(factors))
    assert {(n, row[n]) for row in rows for n in range(len(factors))} == {
        (n, row[n]) for row in product(factors) for n in range(len(factors))
    }
    assert len(set(rows)) == len(rows)


def test_pairs_take_far_fewer_rows_than_the_product() -> None:
    """3 * 2 * 2 * 3 * 2 = 72 combinations; 9 rows are the least that hold the pairs of 3 by 3."""
    assert 9 <= len(combinations(SETS["five factors"], full=False)) <= 12


@pytest.mark.parametrize("name", SETS)
def test_full_is_the_product(name: str) -> None:
    """With `--full` every combination occurs once, the last factor changing first."""
    factors = SETS[name]
    assert positions(combinations(factors, full=True), factors) == product(factors)


def not_both_large(cell: Mapping[str, Any]) -> bool:
    """a = 3 exists only with b = 1; complete and incomplete combinations are asked for."""
    return cell.get("a") != 3 or cell.get("b", 1) == 1


def test_what_is_impossible_never_occurs() -> None:
    """Neither in the fast tier nor with `--full`; every other pair still occurs."""
    factors = SETS["five factors"]
    fast = combinations(factors, full=False, possible=not_both_large)
    full = combinations(factors, full=True, possible=not_both_large)
    assert len(full) == 72 - 12  # a = 3 with b = 4, and 2 * 3 * 2 of the others
    for rows in (fast, full):
        assert not [row for row in rows if row[:2] == (3, 4)]
    assert pairs(positions(fast, factors)) == pairs(positions(full, factors))


def test_pairs_that_few_combinations_have_occur() -> None:
    """Only one combination has a = 3 and b = 3, and only one c = 3: it is there."""

    def only_one(cell: Mapping[str, Any]) -> bool:
        three = [value == 3 for value in cell.values()]
        return not any(three) or all(three)

    factors: Factors = {name: [1, 2, 3] for name in "abcd"}
    fast = combinations(factors, full=False, possible=only_one)
    full = combinations(factors, full=True, possible=only_one)
    assert len(full) == 2**4 + 1
    assert pairs(positions(fast, factors)) == pairs(positions(full, factors))
    assert (3, 3, 3, 3) in fast


def test_what_is_not_affordable_occurs_with_full_only() -> None:
    """The fast tier leaves it out, and `--full` does not."""
    factors = SETS["two factors"]
    cheap = combinations(factors, full=False, affordable=lambda cell: cell.get("a") != 2)
    assert sorted(cheap) == [(1, "x"), (1, "y"), (3, "x"), (3, "y")]
    assert len(combinations(factors, full=True, affordable=lambda cell: False)) == 6


def test_the_order_is_that_of_the_factors() -> None:
    """Whatever order the factors are named in, a row has its values in that order."""
    forwards: Factors = {"a": [1, 2], "b": ["x", "y"], "c": [None, 0.5]}
    backwards = dict(reversed(forwards.items()))
    for row in combinations(forwards, full=False):
        assert [value in values for value, values in zip(row, forwards.values(), strict=True)]
        assert (type(row[0]), type(row[1])) == (int, str)
    for row in combinations(backwards, full=False):
        assert (type(row[2]), type(row[1])) == (int, str)


def test_every_process_collects_the_same() -> None:
    """The rows are the same at every call, as workers that share the tests need it."""
    factors = SETS["five factors"]
    assert combinations(factors, full=False) == combinations(factors, full=False)
