"""What `import l2keras` and `python -m l2keras` load, in interpreters of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import l2keras

PACKAGE = Path(l2keras.__file__).parent
BACKENDS = ["tensorflow", "jax", "torch"]


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_public_modules_are_attributes_without_an_import(backend: str) -> None:
    """`import l2keras` is enough for `l2keras.masks.select`, in a fresh interpreter."""
    names = sorted(path.stem for path in PACKAGE.iterdir() if path.name[0].isalpha() and
                   (path.suffix == ".py" or (path / "__init__.py").exists()))  # fmt: skip
    program = f"import l2keras; print([getattr(l2keras, name).__name__ for name in {names}])"
    result = python("-c", program, KERAS_BACKEND=backend)
    assert result.stdout.splitlines()[-1:] == [str([f"l2keras.{name}" for name in names])]


@pytest.mark.parametrize("backend", BACKENDS)
def test_importing_it_loads_itself_and_nothing_else(backend: str) -> None:
    """In a fresh interpreter l2keras adds to `import keras` only itself: no Hydra, no MLflow."""
    program = (
        "import sys, keras; before = set(sys.modules); from l2keras import *; "
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    result = python("-c", program, KERAS_BACKEND=backend)
    assert result.stdout.splitlines()[-1:] == ["['l2keras']"], result.stdout + result.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_importing_it_loads_every_public_name(backend: str) -> None:
    """HalfL2 is registered, and no name is left to load inside a function that is traced."""
    program = (
        "import keras, l2keras; "
        "assert keras.saving.get_registered_object('l2keras>HalfL2'); "
        "print(set(l2keras.__all__) <= set(vars(l2keras)))"
    )
    result = python("-c", program, KERAS_BACKEND=backend)
    assert result.stdout.splitlines()[-1:] == ["True"], result.stdout + result.stderr


def test_importing_it_still_registers_half_l2(tmp_path: Path) -> None:
    """A package that imports l2keras while its own `python -m` starts has HalfL2, registered."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__main__.py").write_text("")
    (tmp_path / "pack" / "__init__.py").write_text(
        "import l2keras, keras; print(keras.saving.get_registered_object('l2keras>HalfL2'))"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(l2keras.__file__).parents[1])])
    result = python("-m", "pack", "l2keras", PYTHONPATH=path, KERAS_BACKEND="numpy")
    assert "regularizers.HalfL2" in result.stdout, result.stderr


def test_the_command_line_takes_a_fraction_of_what_keras_takes_to_load() -> None:
    """Converting takes less than a fifth of the CPU time of `import keras`: it imports none."""

    def seconds(*arguments: str) -> float:
        before = os.times()
        assert python(*arguments, KERAS_BACKEND="numpy").returncode == 0
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])  # user and system time of the children

    convert = ["convert", "1e-4", "--from", "torch.SGD", "--to", "keras.L2"]
    assert 0.0 < seconds("-m", "l2keras", *convert) < seconds("-c", "import keras") / 5
