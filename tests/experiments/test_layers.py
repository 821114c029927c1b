"""The experiments stand above the library, and MLflow and Hydra in one place each."""

from __future__ import annotations

import re

import pytest

from experiments import paths

EXPERIMENTS = sorted((paths.PROJECT / "experiments").glob("*.py"))
LIBRARY = sorted((paths.PROJECT / "l2keras").glob("*.py"))
# What may be imported where; a module that is not named may import none of these.
ALLOWED = {
    "mlflow": {"tracking"},
    "hydra": {
        "cli",
        "compare",
        "composing",
        "composition",
        "credentials",  # the parser of overrides
        "launchers",
        "loading",
        "overrides",
        "train",
        "tune",
        "typed_values",
    },
    "matplotlib": {
        "comparison_plots",
        "drawing",
        "search_figures",
        "study_curves",
        "study_maps",
        "study_plots",
        "study_timescales",
    },
    "rich": {"progress"},
    "jinja2": {"page"},
    "scipy": {"statistics"},
    "sklearn": {"sources"},
    "mlxtend": {"sources"},
}


@pytest.mark.parametrize("package", ALLOWED)
def test_each_package_has_its_place(package: str) -> None:
    """MLflow, Hydra, matplotlib and the others are imported by the modules that are theirs."""
    pattern = re.compile(rf"^\s*(?:import|from) {package}\b", flags=re.MULTILINE)
    users = {path.stem for path in EXPERIMENTS if pattern.search(path.read_text())}
    assert users == ALLOWED[package]


def test_the_library_knows_nothing_of_the_experiments() -> None:
    """No module of l2keras mentions the experiments."""
    for path in LIBRARY:
        assert "experiments" not in path.read_text(), path.name
