"""Figures with whatever names their runs have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from l2keras_experiments.reports import drawing


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


def test_a_new_machine_says_nothing_of_fonts() -> None:
    """The warning of matplotlib that it makes its list of fonts, without which it imports."""
    program = (
        "from l2keras_experiments.reports import drawing; import matplotlib.font_manager as fonts; "
        "fonts._log.warning('building the font cache'); print('imported')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("imported\n", "")
