"""What is done, what goes on, what is left alone: decided from the runs of one config."""

from __future__ import annotations

from typing import Any

import pytest

from experiments import ledger
from experiments.ledger import Entry
from experiments.schema import Rerun


def entry(run_id: str, status: str, **changes: Any) -> Entry:
    running = status == "RUNNING"
    values: dict[str, Any] = {
        "name": "a run", "config_hash": "c0ffee", "ended": None if running else 5,
        "elsewhere": running, "host": "somewhere", "parent": None, "failure": None, "metrics": {},
    }  # fmt: skip
    return Entry(run_id=run_id, status=status, **{**values, **changes})


FINISHED, FAILED, KILLED = (entry(s.lower(), s) for s in ("FINISHED", "FAILED", "KILLED"))
RUNNING = entry("running", "RUNNING")
DEAD = entry("dead", "RUNNING", elsewhere=False)


@pytest.mark.parametrize(
    ("entries", "rerun", "expected"),
    [
        ([], "failed", None),
        ([FINISHED], "failed", ("SKIPPED", "finished")),
        ([FAILED, FINISHED], "failed", ("SKIPPED", "finished")),
        ([FAILED], "failed", None),
        ([KILLED], "failed", None),
        ([DEAD], "failed", None),
        ([RUNNING], "failed", ("RUNNING", "running")),
        ([FINISHED], "all", None),
        ([FINISHED], "none", ("SKIPPED", "finished")),
        ([FAILED], "none", ("FAILED", "failed")),
    ],
)
def test_what_is_not_trained_again(
    entries: list[Entry], rerun: str, expected: tuple[str, str] | None
) -> None:
    """A finished run is skipped, a running one left alone; the others are trained."""
    outcome = ledger.settled(entries, Rerun(rerun), "label")
    assert (outcome and (outcome.status, outcome.run_id)) == expected


def test_a_claimed_config_is_trained() -> None:
    """Whoever holds the claim knows that no other process is at work."""
    assert ledger.settled([RUNNING], Rerun.failed, "label", claimed=True) is None


@pytest.mark.parametrize(
    ("entries", "rerun", "expected"),
    [
        ([], "failed", None),
        ([FINISHED], "failed", None),
        ([FAILED, KILLED], "failed", "failed"),
        ([FINISHED, KILLED], "failed", "killed"),
        ([FAILED], "all", None),
    ],
)
def test_the_run_to_go_on_with(entries: list[Entry], rerun: str, expected: str | None) -> None:
    """The newest that did not finish; under rerun=all a new one."""
    assert ledger.resumable(entries, Rerun(rerun)) == expected
