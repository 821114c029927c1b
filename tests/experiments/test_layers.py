"""The experiments stand above the library, and their packages in one order."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from l2keras_experiments.config import paths

LIBRARY = sorted((paths.PROJECT / "l2keras").rglob("*.py"))
ROOT = paths.PROJECT / "l2keras_experiments"
MODULES = sorted(ROOT.rglob("*.py"))
COMMANDS = sorted((paths.PROJECT / "experiments").glob("*.py"))
PLUGINS = sorted((paths.PROJECT / "hydra_plugins").rglob("*.py"))
# Each package imports only itself and those to its left, also inside functions.
ORDER = (
    "library",  # the module that imports private parts of l2keras
    "config",
    "runtime",
    "data",
    "training",
    "tracking",
    "commands",
    "reports",
    "sweeps",
    "tuning",
    "console",
)
# What may be imported where. A module or a package that is not named imports none of these.
ALLOWED = {
    "mlflow": {
        "tracking.models",
        "tracking.store",
        "tracking.system_metrics",
        "tracking.training_ui",
    },
    "hydra": {
        "commands.command_line",
        "config.composition",
        "config.credentials",  # the parser of overrides
        "config.launchers",
        "config.loading",
        "config.overrides",
        "config.sealing",
        "config.targets",
        "config.typed_values",
        "console.compare",
        "console.train",
        "console.tune",
        "sweeps.job",
        "tracking.provenance",
        "tuning.presets",
    },
    "optuna": {"tuning.batches", "tuning.launch", "tuning.search"},
    "matplotlib": {
        "reports.comparison.plots",
        "reports.drawing",
        "reports.figures.curves",
        "reports.figures.maps",
        "reports.figures.results",
        "reports.figures.timescales",
        "reports.study_page",
        "tuning.figures",
    },
    "rich": {"runtime.progress"},
    "jinja2": {"reports.page"},
    "scipy": {"reports.statistics"},
    "sklearn": {"data.sources"},
    "mlxtend": {"data.sources"},
}


# What takes a second to import, or loads Keras: it may wait until a function needs it.
HEAVY = {
    "library",
    "reports.comparison.page",
    "reports.report",
    "sweeps.vectorized.jobs",
    "sweeps.vectorized.stacked_run",
    "sweeps.vectorized.trainer",
    "tracking.system_metrics",
    "training.checkpoint",
    "training.saving",
    "training.schedules",
    "training.trial",
    "tuning.batches",
    "tuning.figures",
}


def name_of(path: Path) -> str:
    """Returns the dotted name of a module below `l2keras_experiments`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported(path: Path) -> Iterator[str]:
    """Yields the dotted names that a module imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"expected absolute imports in {path}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_order_names_every_package() -> None:
    found = {name_of(path).partition(".")[0] for path in MODULES} - {"__init__"}
    assert found == set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_package_imports_those_below_it(path: Path) -> None:
    """A module imports its own package and those below, and no command or plugin.

    `config.launchers` registers a launcher of the plugins, which Hydra's own search leaves out.
    """
    own = name_of(path).partition(".")[0]
    if own == "__init__":
        assert list(imported(path)) == []
        return
    below = ORDER[: ORDER.index(own) + 1]
    names = [name.split(".") for name in imported(path)]
    assert {name[1] for name in names if name[0] == "l2keras_experiments"} <= set(below)
    above = {"experiments", "benchmarks", "tests"}
    if name_of(path) != "config.launchers":
        above.add("hydra_plugins")
    assert not above & {name[0] for name in names}


def test_private_parts_of_the_library_have_one_place() -> None:
    """Only `library` imports `l2keras._*`."""
    users = {
        path
        for path in [*MODULES, *COMMANDS, *PLUGINS]
        if any(name.startswith("l2keras._") for name in imported(path))
    }
    assert users == {ROOT / "library.py"}


def test_no_command_imports_another() -> None:
    for path in COMMANDS:
        assert not [name for name in imported(path) if name.split(".")[0] == "experiments"]


def test_the_config_loads_nothing_heavy() -> None:
    """Importing every module of `config` loads no backend, no Keras and no MLflow."""
    modules = [f"l2keras_experiments.{name_of(path)}" for path in (ROOT / "config").glob("*.py")]
    heavy = "{'keras', 'tensorflow', 'jax', 'torch', 'mlflow'}"
    code = f"import sys, {', '.join(modules)}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_heavy_modules_are_imported_inside_functions(path: Path) -> None:
    """The graph of the packages stands at the top of their modules.

    `console.main` answers `l2keras convert` in a tenth of a second and imports nothing before.
    """
    if name_of(path) == "console.main":
        return
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    inside = {
        f"{node.module}.{alias.name}".removeprefix("l2keras_experiments.")
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, functions)
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("l2keras_experiments")
        for alias in node.names
    }
    assert {name for name in inside if not {name, name.rpartition(".")[0]} & HEAVY} == set()


@pytest.mark.parametrize("package", ALLOWED)
def test_each_dependency_has_its_place(package: str) -> None:
    """MLflow, Hydra, matplotlib and the others are imported by the modules that are theirs."""
    users = {
        name_of(path)
        for path in MODULES
        if any(name.split(".")[0] == package for name in imported(path))
    }
    assert users == ALLOWED[package]


def test_the_library_knows_nothing_of_the_experiments() -> None:
    """No module of l2keras mentions the experiments."""
    for path in LIBRARY:
        assert "experiments" not in path.read_text(), path.name
