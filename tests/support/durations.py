"""The order of the test files, and a warning where one takes longer than its budget."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from tests.support import ROOT

TEST_BUDGET, FILE_BUDGET = 5.0, 30.0  # seconds
# Each worker takes whole files. Those of the slowest folders come first: none is left last.
SLOWEST_FIRST = (
    "tests/library/sweep/test_layers",
    "tests/library/sweep",
    "tests/contracts",
    "tests/experiments",
    "tests/library",
)
UNLIMITED = ("tests/system", "tests/slow")  # processes, servers, a browser


def rank(path: Path) -> int:
    """Returns the place of a file in the order; a lower one comes earlier."""
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    ranks = (n for n, beginning in enumerate(SLOWEST_FIRST) if name.startswith(beginning))
    return next(ranks, len(SLOWEST_FIRST))


class Budget:
    """Adds up the seconds of each test and of each file, for each worker.

    Set-up counts for the file only: the first test of a process imports the backend.
    """

    def __init__(self) -> None:
        self.tests: dict[tuple[str, str], float] = defaultdict(float)
        self.files: dict[tuple[str, str], float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.nodeid.startswith(UNLIMITED):
            return
        worker = getattr(report, "worker_id", "")
        self.files[worker, report.nodeid.partition("::")[0]] += report.duration
        if report.when != "setup":
            self.tests[worker, report.nodeid] += report.duration

    def exceeded(self) -> list[str]:
        """Returns a line for each test and each file over its budget, the slowest first."""
        over = [(s, name, TEST_BUDGET) for (_, name), s in self.tests.items() if s > TEST_BUDGET]
        over += [(s, name, FILE_BUDGET) for (_, name), s in self.files.items() if s > FILE_BUDGET]
        return [
            f"{name}: {seconds:.1f} s, budget {budget:.0f} s"
            for seconds, name, budget in sorted(over, reverse=True)
        ]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Warns only: other machines are slower, and this one may be busy."""
        for line in self.exceeded():
            terminalreporter.write_line(f"over budget: {line}", yellow=True)


def pytest_configure(config: pytest.Config) -> None:
    if not (config.getoption("full") or hasattr(config, "workerinput")):
        config.pluginmanager.register(Budget(), "budget")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank(item.path))
