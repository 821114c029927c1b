"""What is done, what goes on, what is left alone: decided from the runs of one config."""

from __future__ import annotations

from typing import Any

import pytest

from l2keras_experiments.config.schema import Rerun
from l2keras_experiments.sweeps import completed
from l2keras_experiments.sweeps.completed import Entry


def entry(run_id: str, status: str, **changes: Any) -> Entry:
    running = status == "RUNNING"
    values: dict[str, Any] = {
        "name": "a run", "config_hash": "c0ffee", "ended": None if running else 5,
        "elsewhere": running, "host": "somewhere", "launches": frozenset(), "failure": None,
        "metrics": {},
    }  # fmt: skip
    return Entry(run_id=run_id, status=status, **{**values, **changes})


FINISHED, FAILED, KILLED = (entry(s.lower(), s) for s in ("FINISHED", "FAILED", "KILLED"))
RUNNING = entry("running", "RUNNING")
DEAD = entry("dead", "RUNNING", elsewhere=False)
LOST = entry("lost", "KILLED", resumable=False)


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
    outcome = completed.settled(entries, Rerun(rerun), "label")
    assert (outcome and (outcome.status, outcome.run_id)) == expected


def test_a_claimed_config_is_trained() -> None:
    """Whoever holds the claim knows that no other process is at work."""
    assert completed.settled([RUNNING], Rerun.failed, "label", claimed=True) is None


@pytest.mark.parametrize(
    ("entries", "rerun", "expected"),
    [
        ([], "failed", None),
        ([FINISHED], "failed", None),
        ([FAILED, KILLED], "failed", "failed"),
        ([FINISHED, KILLED], "failed", "killed"),
        ([FAILED], "all", None),
        ([LOST], "failed", None),
        ([LOST, KILLED], "failed", "killed"),
    ],
)
def test_the_run_to_go_on_with(entries: list[Entry], rerun: str, expected: str | None) -> None:
    """The newest that did not finish and can be resumed; under rerun=all a new one."""
    assert completed.resumable(entries, Rerun(rerun)) == expected
