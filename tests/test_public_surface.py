"""What the package exports and imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import l2keras

PACKAGE = Path(l2keras.__file__).parent
MODULES = sorted(PACKAGE.glob("*.py"))
BACKENDS = {"tensorflow", "jax", "torch"}
# The layers of the library: a module may import those to its left.
LAYERS = [
    *("_validation", "_system", "_systems", "_equivalence", "penalties"),
    *("_variables", "masks", "_optimizers", "_own_decay", "_rounding", "_lazy", "_anchors"),
    *("_rules", "_updates", "_train_function", "_forms", "regularizers"),
    *("_rows", "_render", "_report", "_callback_decay", "_subject"),
    *("_rules_of_decay", "_rules_of_settings", "findings", "auditing", "callbacks"),
]
TOP = {"conversion", "catalogue", "timescales"}


def imports(module: Path, *, at_top: bool) -> set[str]:
    """Every imported module in full, at the top or inside functions."""
    tree = ast.parse(module.read_text())
    top = set(tree.body)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and (node in top) == at_top:
            names = {alias.name for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{name}" for name in names}
            found |= names
    return found


def test_all_is_the_public_surface() -> None:
    """`__all__` is sorted, and is every public name that is not a module."""
    assert l2keras.__all__ == sorted(l2keras.__all__)
    modules = {module.stem for module in MODULES}
    public = {name for name in vars(l2keras) if not name.startswith("_")} - modules
    assert public == set(l2keras.__all__)


@pytest.mark.parametrize("name", l2keras.__all__)
def test_every_public_name_has_an_executed_example(name: str) -> None:
    """Each public object documents its convention and has a doctest."""
    documentation = getattr(l2keras, name).__doc__
    assert "Convention:" in documentation
    assert ">>> " in documentation


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_the_library_imports_keras_and_numpy_only(module: Path) -> None:
    """At the top only the standard library, Keras and NumPy; backends, too, inside functions."""
    allowed = {*sys.stdlib_module_names, "keras", "numpy", "l2keras"}
    assert {name.split(".")[0] for name in imports(module, at_top=True)} <= allowed
    assert {name.split(".")[0] for name in imports(module, at_top=False)} <= {*BACKENDS, *allowed}


def test_the_layers_of_the_library_point_down() -> None:
    """No module imports one that is above it."""
    for index, name in enumerate(LAYERS):
        found = imports(PACKAGE / f"{name}.py", at_top=True)
        above = {*LAYERS[index:], *TOP}
        assert not {f"l2keras.{other}" for other in above} & found, name


def test_importing_it_loads_itself_and_nothing_else() -> None:
    """In a fresh interpreter l2keras adds to `import keras` only itself: no Hydra, no MLflow."""
    program = (
        "import sys, keras; before = set(sys.modules); import l2keras; "
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1:] == ["['l2keras']"], result.stdout + result.stderr
