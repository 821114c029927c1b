"""The order of the test files, and the lines about those that take too long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.durations import FILE_BUDGET, SLOWEST_FIRST, TEST_BUDGET, Budget, rank


def test_the_slowest_files_come_first() -> None:
    """The first beginning that a path has counts; what is elsewhere comes last."""
    paths = [ROOT / f"{beginning}/test_one.py" for beginning in SLOWEST_FIRST[1:]]
    first = ROOT / f"{SLOWEST_FIRST[0]}.py"
    last = [ROOT / "l2keras" / "masks.py", Path("/elsewhere/tests/library/test_one.py")]
    assert sorted([*last, *reversed(paths), first], key=rank) == [first, *paths, *last]
    assert rank(last[0]) == rank(last[1]) == len(SLOWEST_FIRST)


def test_every_beginning_is_there() -> None:
    """A folder or a file that was moved away would be ordered no longer."""
    for beginning in SLOWEST_FIRST:
        assert (ROOT / beginning).is_dir() or (ROOT / f"{beginning}.py").is_file(), beginning


def reported(nodeid: str, *seconds: float, worker: str = "") -> list[pytest.TestReport]:
    """The reports of set-up, call and tear-down of one test."""
    phases = ("setup", "call", "teardown")
    reports = [
        pytest.TestReport(nodeid, ("", 0, ""), {}, "passed", None, when, duration=duration)  # type: ignore[arg-type]  # of the three
        for when, duration in zip(phases, seconds, strict=True)
    ]
    for report in reports:
        report.worker_id = worker  # type: ignore[attr-defined]  # as xdist does
    return reports


def test_what_is_over_its_budget_is_listed_the_slowest_first() -> None:
    """6 * 5.25 = 31.5 s are over 30 s for a file, 5.125 s over 5 s for a test; 5 s are not."""
    assert (TEST_BUDGET, FILE_BUDGET) == (5.0, 30.0)
    budget = Budget()
    for number in range(6):
        for report in reported(f"tests/a.py::test[{number}]", 0.125, 5.0, 0.125):
            budget.pytest_runtest_logreport(report)
    for report in [
        *reported("tests/b.py::test", 0.0, 5.0, 0.0),
        *reported("tests/b.py::test_slow", 1.0, 6.0, 1.5),
        *reported("tests/system/c.py::test", 0.0, 99.0, 0.0),
        *reported("tests/slow/d.py::test", 0.0, 99.0, 0.0),
    ]:
        budget.pytest_runtest_logreport(report)
    assert budget.exceeded() == [
        "tests/a.py: 31.5 s, budget 30 s",
        "tests/b.py::test_slow: 7.5 s, budget 5 s",
        *(f"tests/a.py::test[{number}]: 5.1 s, budget 5 s" for number in (5, 4, 3, 2, 1, 0)),
    ]


def test_two_backends_that_run_one_test_are_not_added() -> None:
    """3 s on JAX and 3 s on torch are within 5 s; so are 18 s each of a file within 30 s."""
    budget = Budget()
    for worker in ("gw0", "gw1"):
        for number in range(6):
            for report in reported(f"tests/a.py::test[{number}]", 0.0, 3.0, 0.0, worker=worker):
                budget.pytest_runtest_logreport(report)
    assert budget.exceeded() == []


def test_the_import_of_a_backend_is_not_the_time_of_the_first_test() -> None:
    """Set-up counts for the file only: 9 s before a test of 4 s."""
    budget = Budget()
    for report in reported("tests/a.py::test", 9.0, 4.0, 0.0):
        budget.pytest_runtest_logreport(report)
    assert budget.exceeded() == []
