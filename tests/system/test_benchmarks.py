"""Each benchmark measures a tiny case and writes its JSON, its page and its figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import (
    audit_time,
    fit_overhead,
    lazy_embedding,
    step_cost,
    sweep,
    tracking_cost,
    whole_way,
)
from benchmarks import render as render_command
from benchmarks.cases import memory
from benchmarks.cases.sweeps import CASES
from benchmarks.cases.variants import BUILTIN, NONE
from benchmarks.kit import render
from benchmarks.kit.result import RESULTS, Result, from_json
from tests.support.models import BACKEND

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="the experiments need TensorFlow")

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command, and checks its page; returns its only result."""

    def run(main: Callable[[list[str]], None], *arguments: str) -> Result:
        main([*arguments, "--results", str(tmp_path)])
        (path,) = tmp_path.glob("*.json")
        result = from_json(path.read_text(encoding="utf-8"))
        assert path.with_suffix(".md").read_text(encoding="utf-8") == render.page(result)
        assert path.with_suffix(".png").exists() == bool(result.figure)
        assert result.origin.command.startswith(f"KERAS_BACKEND={BACKEND} python -m benchmarks.")
        return result

    return run


def test_step_cost(run: Run) -> None:
    """A table of all variants, and the goals of a small model."""
    result = run(step_cost.main, "--model", "embedding", "--rounds", "2")
    assert result.name == f"step_cost_{BACKEND}_graph"
    (table,) = result.sections
    assert len(table.rows) == 9
    assert [len(seconds) for seconds in table.rounds.values()] == [2] * 9
    assert len(result.goals) == 3


def test_peak_memory_of_three_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of the built-in need the square of each kernel; those of the control do not."""
    monkeypatch.setattr(memory, "RUNS", 1)
    added = memory.added([NONE, BUILTIN], "graph")
    assert list(added) == ["none, again", BUILTIN]
    assert added[BUILTIN].peak > abs(added["none, again"].peak)


def test_operations_of_a_penalty() -> None:
    """Four operations and the control take some time."""
    rows = step_cost.operations().rows
    assert len(rows) == 5
    assert min(value or 0.0 for (value,) in rows.values()) > 0.0


def test_sweep(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lambdas for one epoch; in float64 their weights are those of the fits."""
    tiny = replace(CASES["mlp_32"], examples=64, epochs=1, lams=2, looped=2)
    monkeypatch.setitem(CASES, "mlp_32", tiny)
    result = run(sweep.main, "--case", "mlp_32", "--rounds", "1")
    summary, table, _ = result.sections
    assert list(summary.rows) == [tiny.title]
    assert "matrix products in it" in table.rows
    assert {goal.text: goal.verdict for goal in result.goals}[
        "largest difference of a weight, float64"
    ] == "met"


def test_whole_way(run: Run) -> None:
    """The phases of both profiles add up to the whole."""
    result = run(whole_way.main, "--rounds", "1")
    assert len(result.goals) == 5
    for profile in result.sections[1:3]:
        assert sum(row[1] or 0.0 for row in profile.rows.values()) == pytest.approx(1.0)


def test_fit_overhead(run: Run) -> None:
    """The loop, its control and `fit`."""
    result = run(fit_overhead.main, "--rounds", "1")
    assert len(result.sections[0].rows) == 3


def test_audit_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit of three layers takes less than a second."""
    monkeypatch.setattr(audit_time, "LAYERS", 3)
    (goal,) = run(audit_time.main, "--rounds", "2").goals
    assert goal.verdict == "met"


def test_lazy_embedding(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control and both forms of decay, and the decay of all rows."""
    monkeypatch.setattr(lazy_embedding, "ROWS", 1_000)
    result = run(lazy_embedding.main, "--rounds", "1")
    assert [len(section.rows) for section in result.sections] == [4, 1]


def test_tracking_cost(run: Run) -> None:
    """One run of each variant, and a report."""
    result = run(tracking_cost.main, "1")
    assert [len(section.rows) for section in result.sections] == [4, 4, 1]


def test_a_part_writes_no_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a folder, a run of one model leaves the published results alone."""
    monkeypatch.setattr("benchmarks.kit.command.RESULTS", tmp_path)
    step_cost.main(["--model", "cnn", "--rounds", "1"])
    assert not list(tmp_path.iterdir())


def test_render_changes_no_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`python -m benchmarks.render` writes the committed pages again, and their figures."""
    committed = {path.name: path for path in RESULTS.iterdir()}
    for name, path in committed.items():
        if path.suffix == ".json":
            (tmp_path / name).write_bytes(path.read_bytes())
    monkeypatch.setattr(render_command, "RESULTS", tmp_path)
    render_command.main()
    assert {path.name for path in tmp_path.iterdir()} == set(committed)
    for path in tmp_path.glob("*.md"):
        assert path.read_text(encoding="utf-8") == committed[path.name].read_text(encoding="utf-8")
