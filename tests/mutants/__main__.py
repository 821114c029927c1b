"""Runs the mutants: `python -m tests.mutants [NAME ...]`.

Each mutant is applied to a copy of the checkout, where the tests of its area run. A failing test
catches it. The table of what caught each mutant is written to tests/mutants/README.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.mutants import TABLE, Mutant, apply, files, mutants
from tests.support import ROOT

SURVIVED, BROKEN = "survived", "broken"
LONGEST_NAME = 110  # characters
TIME_LIMIT = 1200.0  # seconds; a mutant may also hang
_FIRST_FAILURE = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", re.MULTILINE)
_ROW = re.compile(r"^\| \[.*\]\((\w+)\.patch\) \|.*\|$", re.MULTILINE)
# Where a process would import the packages from. Hydra imports plugins from every folder that has
# some, the last one wins.
_ORIGINS = """
import importlib.util, os, hydra_plugins
for name in ("l2keras", "experiments", "l2keras_experiments", "tests"):
    print(importlib.util.find_spec(name).origin)
for folder in hydra_plugins.__path__:
    path = os.path.join(folder, "l2keras_sweeps", "__init__.py")
    if os.path.exists(path):
        print(path)
"""
# Runs in every process. An editable installation has put another checkout on the path.
_SITE = """
import os, sys
sys.path[:] = [p for p in sys.path if p == {copy!r} or not os.path.exists(p + "/l2keras/masks.py")]
"""
_HEAD = """# What catches each mutant

`make mutants` applies each patch of this folder to a copy of the checkout, runs the fast tests of
its area, and writes this table. The tests run on TensorFlow; those of the areas jax and torch run
on that backend. The fault is linked to its patch.

| Fault | Area | Caught by | Seconds |
| --- | --- | --- | ---: |
"""


@dataclass(frozen=True)
class Result:
    """How the tests of one area ended.

    Attributes:
        verdict: The first failing test, or `survived`, or `broken`.
        seconds: Wall time.
        output: Of pytest, or of git.
    """

    verdict: str
    seconds: float
    output: str = ""

    @property
    def is_caught(self) -> bool:
        return self.verdict not in (SURVIVED, BROKEN)


def run(tests: Sequence[str], backend: str, mutant: Mutant | None = None) -> Result:
    """Runs tests in a copy of the checkout, with a mutant applied to it if there is one."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder, "checkout")
        _copy(copy)
        refusal = apply(mutant, copy) if mutant else ""
        verdict, output = (BROKEN, refusal) if refusal else _tested(tests, backend, copy)
    return Result(verdict, time.monotonic() - start, output)


def _copy(target: Path) -> None:
    """Copies the files that git tracks or does not ignore. Links are left out."""
    for name in files():
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def _tested(tests: Sequence[str], backend: str, folder: Path) -> tuple[str, str]:
    """Returns the verdict and the output of pytest in `folder`."""
    environment = importing_from(folder) | {"KERAS_BACKEND": backend}
    foreign = imported_from_elsewhere(folder, environment)
    if foreign:
        return BROKEN, f"the tests would import {', '.join(foreign)}, not {folder}"
    # The tests keep files beside their base folder too: the next mutant must not find them.
    base = folder.parent / "temporary"
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={base}"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    status, output = run_alone(command, folder, environment, TIME_LIMIT)
    if status == 0:
        return SURVIVED, output
    first = _FIRST_FAILURE.search(output)
    return (first[1] if first and status == 1 else BROKEN), output


def importing_from(folder: Path) -> dict[str, str]:
    """Returns an environment whose processes import our packages from a copy of the checkout.

    A module that does so is written beside `folder`.
    """
    site = folder.parent / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_SITE.format(copy=str(folder)), encoding="utf-8")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(folder)])}


def imported_from_elsewhere(folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Returns the files outside `folder` that a process there would import as our packages."""
    command = [sys.executable, "-c", _ORIGINS]
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    origins = [Path(line) for line in result.stdout.splitlines()]
    return [str(path) for path in origins if not path.resolve().is_relative_to(folder.resolve())]


_running: set[subprocess.Popen[str]] = set()


def run_alone(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], limit: float
) -> tuple[int | None, str]:
    """Runs a command in a process group of its own, which is killed after `limit` seconds.

    Returns:
        The exit status, None after a kill; the output.
    """
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        _running.add(process)
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            _kill(process)
            return None, f"no end after {limit:g} s"
        finally:
            _running.discard(process)
    return process.returncode, output


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _threads(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """A pool whose commands end on Ctrl-C, which a process group of its own does not receive."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield pool
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(_running):
                _kill(process)
            raise


def unmutated_failures(chosen: Iterable[Mutant], jobs: int) -> list[str]:
    """Returns the areas whose tests fail without any mutant."""

    def passes(area: tuple[tuple[str, ...], str]) -> bool:
        result = run(*area)
        if result.verdict == SURVIVED:
            result = replace(result, verdict="passed")
        _show(f"unmutated {_describe(area)}", result)
        return result.verdict == "passed"

    areas = list(dict.fromkeys((mutant.tests, mutant.backend) for mutant in chosen))
    with _threads(jobs) as pool:
        passed = list(pool.map(passes, areas))
    return [_describe(area) for area, good in zip(areas, passed, strict=True) if not good]


def _describe(area: tuple[tuple[str, ...], str]) -> str:
    tests, backend = area
    return f"{' '.join(tests)} on {backend}"


def _show(name: str, result: Result) -> None:
    print(f"{name}: {result.verdict} ({result.seconds:.0f} s)", flush=True)
    if result.verdict == BROKEN:
        print(result.output[-2000:], flush=True)


def row(mutant: Mutant, result: Result) -> str:
    """Returns the line of the table for one mutant."""
    test = result.verdict.removeprefix("tests/").replace("|", "/")
    if len(test) > LONGEST_NAME:  # the values of parameters
        test = test.partition("[")[0]
    verdict = f"`{test}`" if result.is_caught else test
    fault = f"[{mutant.fault}]({mutant.patch.name})"
    return f"| {fault} | {mutant.area} | {verdict} | {result.seconds:.0f} |"


def rows(table: str) -> dict[str, str]:
    """Returns the lines of a table, by the name of their mutant."""
    return {match[1]: match[0] for match in _ROW.finditer(table)}


def write_table(results: dict[str, str]) -> None:
    """Writes the table; mutants that did not run keep their line."""
    earlier = rows(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    known = {**earlier, **results}
    lines = [known[mutant.name] for mutant in mutants() if mutant.name in known]
    TABLE.write_text(_HEAD + "\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Runs the mutants that are named, or all; returns 1 if any survives or is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants; all without any")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once; default 2")
    parser.add_argument(
        "--no-baseline", action="store_true", help="do not run the tests unmutated first"
    )
    options = parser.parse_args(arguments)
    known = {mutant.name: mutant for mutant in mutants()}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"expected names of patches. Received: {', '.join(unknown)}.")
    chosen = [known[name] for name in options.names or known]
    failures = [] if options.no_baseline else unmutated_failures(chosen, options.jobs)
    if failures:
        print(f"These tests fail without any mutant: {'; '.join(failures)}. Mend them first.")
        return 1
    return _run_all(chosen, options.jobs)


def _run_all(chosen: Sequence[Mutant], jobs: int) -> int:
    results: dict[str, Result] = {}

    def run_one(mutant: Mutant) -> None:
        result = results[mutant.name] = run(mutant.tests, mutant.backend, mutant)
        _show(mutant.name, result)

    with _threads(jobs) as pool:
        list(pool.map(run_one, chosen))
    write_table({mutant.name: row(mutant, results[mutant.name]) for mutant in chosen})
    missed = [name for name, result in results.items() if not result.is_caught]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} mutants were caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
