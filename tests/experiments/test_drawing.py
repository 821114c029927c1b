"""Figures with whatever names their runs have."""

from __future__ import annotations

from pathlib import Path

from experiments import drawing


def test_a_dollar_in_a_name_is_no_formula(tmp_path: Path) -> None:
    r"""Titles, legends and ticks show `$\frac$`, which matplotlib could not read as a formula."""
    name = r"$\frac$"
    figure = drawing.new_figure()
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.plot([1e-3, 1], [1, 2], label=f"label {name}")
    axes.set_title(f"title {name}")
    axes.set_yticks([1, 2], [f"tick {name}", "2"])
    axes.legend()
    element = drawing.save(figure, tmp_path, "dollar")
    for kind in ("label", "title", "tick"):
        assert f"<!-- {kind} {name} -->" in element
    assert "10^{-3}" in element  # a formula of matplotlib's own
    assert (tmp_path / "dollar.png").exists()
