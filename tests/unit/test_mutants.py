"""Every mutant can be run, and is in the table of what caught it."""

from __future__ import annotations

import subprocess

import pytest

from tests.mutants import TABLE, apply, files, mutants
from tests.mutants.__main__ import BROKEN, SURVIVED, Result, row, rows
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


def test_the_table_lists_every_mutant_and_what_caught_it() -> None:
    table = TABLE.read_text(encoding="utf-8")
    assert list(rows(table)) == [mutant.name for mutant in MUTANTS]
    assert f"| {SURVIVED} |" not in table
    assert f"| {BROKEN} |" not in table
    for mutant in MUTANTS:
        assert f"| [{mutant.fault}]({mutant.patch.name}) | {mutant.area} |" in table


def test_a_row_is_read_back() -> None:
    mutant = MUTANTS[0]
    line = row(mutant, Result("tests/unit/test_a.py::test_b[c|d]", 1.6))
    assert line.endswith("| `unit/test_a.py::test_b[c/d]` | 2 |")
    assert rows(f"# Title\n\n{line}\n") == {mutant.name: line}
