"""The wheel: what it holds, what it needs, and that it works outside the checkout."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.models import BACKEND

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="one wheel for all backends")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_the_library_and_its_types(wheel: Path) -> None:
    """The wheel has every module of l2keras and py.typed, and nothing of the experiments."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "l2keras").rglob("*.py")}
    assert names == {*modules, "l2keras/py.typed"}


def test_it_needs_keras_and_numpy_only(wheel: Path) -> None:
    """Without an extra, installing it brings Keras and NumPy."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(needed) == ["keras<3.16,>=3.12", "numpy>=1.26"]
    extras = {"tensorflow", "jax", "torch", "experiments", "cluster", "test"}
    assert set(metadata.get_all("Provides-Extra", [])) == extras


def test_it_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere it imports from there, and computes."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = (
        "import keras, l2keras; print(l2keras.__file__); "
        "print(float(l2keras.HalfL2(2.0)(keras.ops.ones((3, 4)))))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.stdout.splitlines()[-2:] == [str(tmp_path / "l2keras" / "__init__.py"), "12.0"]


def test_every_pin_is_within_its_bounds() -> None:
    """constraints.txt pins every direct dependency of every extra, and names no address."""
    pins = (ROOT / "constraints.txt").read_text()
    assert "://" not in pins
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    pinned = {line.partition("==")[0].lower() for line in pins.splitlines() if "==" in line}
    assert {item.partition(">=")[0].lower() for item in wanted} <= pinned
