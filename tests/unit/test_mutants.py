"""Every mutant can be run, and is in the table of what caught it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.mutants import TABLE, Mutant, apply, files, mutants, read
from tests.mutants.__main__ import (
    BROKEN,
    SURVIVED,
    Result,
    imported_from_elsewhere,
    importing_from,
    row,
    rows,
    run_alone,
)
from tests.support import ROOT

MUTANTS = mutants()


def test_there_are_forty_or_more() -> None:
    assert len(MUTANTS) >= 40
    assert len({mutant.fault for mutant in MUTANTS}) == len(MUTANTS)


def test_every_patch_applies() -> None:
    try:
        files()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no git work tree")
    refusals = {mutant.name: apply(mutant, ROOT, "--check") for mutant in MUTANTS}
    assert not {name: refusal for name, refusal in refusals.items() if refusal}


def test_every_patch_has_one_hunk() -> None:
    texts = {mutant.name: mutant.patch.read_text(encoding="utf-8") for mutant in MUTANTS}
    assert [name for name, text in texts.items() if text.count("\n@@ ") != 1] == []


def test_every_patch_names_its_fault_and_tests_that_exist() -> None:
    for mutant in MUTANTS:
        assert mutant.fault.endswith("."), mutant.name
        assert mutant.tests, mutant.name
        missing = [path for path in mutant.tests if not (ROOT / path).exists()]
        assert not missing, mutant.name


def test_each_backend_has_mutants_that_its_contracts_catch() -> None:
    """Only tests/contracts runs on JAX and torch in the fast tier."""
    on = {name: [m for m in MUTANTS if m.backend == name] for name in ("jax", "torch")}
    assert all(len(chosen) >= 3 for chosen in on.values())
    for name, chosen in on.items():
        for mutant in chosen:
            assert mutant.area == name
            assert all(path.startswith("tests/contracts/") for path in mutant.tests), mutant.name
    assert {m.backend for m in MUTANTS} == {"tensorflow", *on}


def test_the_backend_is_read_from_the_third_line(tmp_path: Path) -> None:
    patch = tmp_path / "area_name.patch"
    patch.write_text("Fault: One.\nTests: tests/a tests/b\nBackend: jax\n--- a/x.py\n")
    assert read(patch) == Mutant("area_name", "One.", ("tests/a", "tests/b"), "jax")
    patch.write_text("Fault: One.\nTests: tests/a\n--- a/x.py\n")
    assert read(patch).backend == "tensorflow"


def test_the_table_lists_every_mutant_and_what_caught_it() -> None:
    table = TABLE.read_text(encoding="utf-8")
    assert list(rows(table)) == [mutant.name for mutant in MUTANTS]
    assert f"| {SURVIVED} |" not in table
    assert f"| {BROKEN} |" not in table
    for mutant in MUTANTS:
        assert f"| [{mutant.fault}]({mutant.patch.name}) | {mutant.area} |" in table


def catcher(line: str) -> tuple[str, str]:
    """The file and the name of the test in the third cell of a row.

    The values of a test's parameters may hold any text, shortened with `...` too. Its name ends
    before them.
    """
    found = re.search(r"\| `([^`\[]+)(?:\[[^`]*)?` \| \d+ \|$", line)
    assert found, f"expected a test in the third cell. Received: {line}"
    path, *_, name = found[1].split("::")
    return f"tests/{path}", name


def test_what_caught_a_mutant_is_a_test_of_its_area() -> None:
    table = rows(TABLE.read_text(encoding="utf-8"))
    stale = []
    for mutant in MUTANTS:
        path, name = catcher(table[mutant.name])
        source = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else ""
        in_area = any(Path(path).is_relative_to(tests) for tests in mutant.tests)
        if not in_area or f"def {name}(" not in source:
            stale.append(f"{mutant.name}: {path}::{name}")
    assert not stale, "run `make mutants` for these"


@pytest.mark.parametrize(
    "test",
    ["unit/test_a.py::test_b", "unit/test_a.py::test_b[c...]", "unit/test_a.py::test_b[a::b/[c"],
)
def test_the_test_is_found_in_a_row(test: str) -> None:
    assert catcher(f"| [One.](a_b.patch) | a | `{test}` | 3 |") == (
        "tests/unit/test_a.py",
        "test_b",
    )


def test_a_survivor_names_no_test() -> None:
    with pytest.raises(AssertionError, match="expected a test"):
        catcher(f"| [One.](a_b.patch) | a | {SURVIVED} | 3 |")


PACKAGES = (
    "l2keras",
    "experiments",
    "l2keras_experiments",
    "tests",
    "hydra_plugins/l2keras_sweeps",
)


def checkout(folder: Path) -> Path:
    """Empty packages under the names of ours."""
    for name in PACKAGES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
    (folder / "l2keras" / "masks.py").touch()
    return folder


def test_code_of_another_checkout_is_noticed(tmp_path: Path) -> None:
    """Every package where there is none; of two folders with plugins, those of the other."""
    one, other = checkout(tmp_path / "one"), checkout(tmp_path / "other")
    (tmp_path / "none").mkdir()
    found = imported_from_elsewhere(tmp_path / "none", {**os.environ, "PYTHONPATH": str(other)})
    assert {str(other / name / "__init__.py") for name in PACKAGES} <= set(found)
    both = {**os.environ, "PYTHONPATH": os.pathsep.join([str(one), str(other)])}
    found = imported_from_elsewhere(one, both)
    assert str(other / "hydra_plugins/l2keras_sweeps/__init__.py") in found
    assert all("l2keras_sweeps" in file for file in found)


def test_only_the_copy_is_imported(tmp_path: Path) -> None:
    """Also where another checkout is on the path, as an editable installation puts it there."""
    one, other = checkout(tmp_path / "one"), checkout(tmp_path / "other")
    environment = importing_from(one)
    environment["PYTHONPATH"] += os.pathsep + str(other)
    assert imported_from_elsewhere(one, environment) == []


def test_a_command_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    """Only the child holds the pipe: the pipe ends with it, long before its minute is over."""
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    start = time.monotonic()
    child = "(echo started; sleep 60) > pipe & wait"
    status, output = run_alone(["sh", "-c", child], tmp_path, os.environ, limit=1.0)
    os.set_blocking(reading, True)
    with open(reading, encoding="utf-8") as pipe:
        assert pipe.read() == "started\n"
    assert (status, output) == (None, "no end after 1 s")
    assert time.monotonic() - start < 50


def test_a_row_is_read_back() -> None:
    mutant = MUTANTS[0]
    line = row(mutant, Result("tests/unit/test_a.py::test_b[c|d]", 1.6))
    assert line.endswith("| `unit/test_a.py::test_b[c/d]` | 2 |")
    assert rows(f"# Title\n\n{line}\n") == {mutant.name: line}
