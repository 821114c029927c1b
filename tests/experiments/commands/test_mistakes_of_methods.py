"""What a method of regularization cannot be is answered before a backend loads or a job runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import answer, check_mistake, contained


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the runs of these commands would go."""
    with pytest.MonkeyPatch.context() as patch:
        yield contained(patch, tmp_path_factory.mktemp("mistakes"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "regularization.lam={a:1}",
            "must be a number.*are regularization.scale, in a config file",
        ),
        ("-m regularization=coupled,decoupled regularization.corrected=true", "needs the coupling"),
        ("-m optimizer=ftrl,sgd regularization=decoupled", "=decoupled needs an optimizer that"),
        (
            "regularization=decoupled regularization.stable=true",
            "`regularization.stable` needs one of the optimizers adam,",
        ),
        ("-m regularization=decoupled regularization.layer_decay=1,-1", "must be positive and fin"),
    ],
)
def test_a_method_that_cannot_be(arguments: str, message: str, runs: Path) -> None:
    """In a sweep, too, where only one of its jobs is mistaken."""
    given = answer("train", arguments.split())
    check_mistake(given, runs)
    assert re.search(message, given.err), given.err


def test_an_arm_that_cannot_be(runs: Path) -> None:
    """A comparison is answered before its first arm trains."""
    given = answer("compare", ["optimizer=ftrl"])
    check_mistake(given, runs)
    assert "regularization=decoupled needs an optimizer that steps from W" in given.err
