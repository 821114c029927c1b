"""What the package exports, and which module imports which."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import l2keras

PACKAGE = Path(l2keras.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
NAMES = [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in MODULES]
BACKENDS = {"tensorflow", "jax", "torch"}
# The layers of the library, from below: a module may import those before it.
LAYERS = [
    *("_validation", "_calls", "_keras.xla", "_squares", "penalties"),
    *("_keras.variables", "_keras.graph", "_keras.losses", "_keras.optimizers"),
    "_keras.inner_functions",
    *(
        "_keras.backup",
        "_keras.cluster",
        "_keras.held",
        "_keras.own_decay",
        "_keras.rehearsal",
        "_keras.retrace",
        "_keras.state",
        "_keras.shares",
        "_keras.tensorflow_rules",
        "_keras.torch_vmap",
        "_roles",
        "masks",
        "regularizers",
    ),
    *("_convert.system", "_convert.systems", "_convert.equivalence", "_convert.conversion"),
    *("_convert.catalogue", "_convert.timescales", "__main__"),
    *("_attach.serialized", "_attach.changes", "_attach.attach"),
    *("_decay.rounding", "_decay.lazy", "_decay.anchors", "_decay.rules", "_decay.traced"),
    *("_decay.updates", "_decay.groups", "_decay.blocks", "_decay.train_function", "_decay.forms"),
    *("_split", "splitting"),
    *("_audit.rows", "_audit.render", "_audit.report", "_audit.subject", "_audit.strength"),
    *("_audit.callback_decay", "_audit.trainers", "_audit.rules_of_decay", "_audit.rules_of_size"),
    *("_audit.rules_of_settings", "_audit.rules_of_steps", "_audit.findings", "_audit.audit"),
    *("_audit.reporter", "callbacks"),
    *("_sweep.members", "_sweep.feed", "_sweep.memory"),
    *("_sweep.refusals", "_sweep.vectorize", "_sweep.interrupts"),
    *("_sweep.recording", "_sweep.programs", "_sweep.loops"),
    *("_sweep.template", "_sweep.optimizer", "_sweep.stacking", "_sweep.evaluation"),
    *("_sweep.stack", "_sweep.group"),
    *("_sweep.stopping", "_sweep.training", "_sweep.result", "_sweep.checks", "_sweep.sweep"),
]


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
    modules = {name.split(".")[0] for name in NAMES}
    public = {name for name in dir(l2keras) if not name.startswith("_")} - modules
    assert public == set(l2keras.__all__)


@pytest.mark.parametrize("name", l2keras.__all__)
def test_every_public_name_has_an_executed_example(name: str) -> None:
    """Each public object documents its convention and has a doctest."""
    documentation = getattr(l2keras, name).__doc__
    assert "Convention:" in documentation
    assert ">>> " in documentation


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_the_library_imports_keras_and_numpy_only(module: Path) -> None:
    """At the top only the standard library, Keras and NumPy; backends, too, inside functions.

    `SweepResult.plot` draws with matplotlib, where that is installed.
    """
    allowed = {*sys.stdlib_module_names, "keras", "numpy", "l2keras"}
    drawn = {"matplotlib"} if module.stem == "result" else set()
    assert {name.split(".")[0] for name in imports(module, at_top=True)} <= allowed
    assert {name.split(".")[0] for name in imports(module, at_top=False)} <= {
        *BACKENDS,
        *allowed,
        *drawn,
    }


def test_every_module_has_its_layer() -> None:
    """A new module has to be given its place."""
    assert set(LAYERS) == set(NAMES)


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_the_layers_of_the_library_point_down(module: Path) -> None:
    """No module imports one that is above it."""
    name = NAMES[MODULES.index(module)]
    found = imports(module, at_top=True) | imports(module, at_top=False)
    above = {f"l2keras.{other}" for other in LAYERS[LAYERS.index(name) + 1 :]}
    assert not [path for path in found if any(f"{path}.".startswith(f"{one}.") for one in above)]
