"""What a fresh interpreter loads with the package."""

from __future__ import annotations

import subprocess
import sys

from tests.unit.test_public_surface import NAMES


def test_the_public_modules_are_attributes_without_an_import() -> None:
    """`import l2keras` is enough for `l2keras.masks.select`, in a fresh interpreter."""
    names = sorted(module for module in {name.split(".")[0] for name in NAMES} if module[0] != "_")
    program = f"import l2keras; print([getattr(l2keras, name).__name__ for name in {names}])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1:] == [str([f"l2keras.{name}" for name in names])]


def test_importing_it_loads_itself_and_nothing_else() -> None:
    """In a fresh interpreter l2keras adds to `import keras` only itself: no Hydra, no MLflow."""
    program = (
        "import sys, keras; before = set(sys.modules); from l2keras import *; "
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1:] == ["['l2keras']"], result.stdout + result.stderr


def test_importing_it_loads_what_loading_a_model_needs_and_no_more() -> None:
    """HalfL2 is registered and has its modules; the rest is loaded when it is asked for."""
    program = (
        "import sys, keras, l2keras; "
        "assert keras.saving.get_registered_object('l2keras>HalfL2'); "
        "print(sorted(name for name in sys.modules if name.startswith('l2keras.')))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = ["_keras", "_keras.xla", "_squares", "_validation", "penalties", "regularizers"]
    loaded = [f"l2keras.{name}" for name in loaded]
    assert result.stdout.splitlines()[-1:] == [str(loaded)], result.stdout + result.stderr
