"""The wheel: what it holds, what it needs, and that it works outside the checkout."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from l2keras_experiments.tracking.store import Store
from tests.support import ROOT
from tests.support.models import BACKEND
from tests.support.runs import runs_of

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="one wheel for all backends")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def environment(wheel: Path, folder: Path, *packages: str) -> Path:
    """Makes an environment with the wheel; returns the folder of its commands.

    Args:
        wheel: Installed without its dependencies.
        folder: Of the environment.
        packages: Folders of further packages. Their .pth files, such as that of an editable
            installation, are not read.
    """
    make = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(make, check=True, capture_output=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python"]
    install = [str(folder / "bin" / "python"), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    [site] = folder.glob("lib/python*/site-packages")
    (site / "packages_of_the_tests.pth").write_text("\n".join(packages))
    return folder / "bin"


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment that has the wheel and nothing else."""
    return environment(wheel, tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def equipped(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment that has the wheel and the packages of its extra."""
    found = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return environment(wheel, tmp_path_factory.mktemp("equipped"), *found)


def l2keras(commands: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs the console command in `folder`, without anything of the checkout on the path."""
    unset = ("PYTHONPATH", "MLFLOW_TRACKING_URI", "L2KERAS_CONSOLE")
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    return subprocess.run(
        [str(commands / "l2keras"), *words],
        cwd=folder,
        env={**variables, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        timeout=500,
    )


def tracked(*folders: str) -> set[str]:
    """The files of the checkout's folders that git knows or would add."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    found = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True)
    return {name for name in found.stdout.splitlines() if (ROOT / name).exists()}


def test_it_holds_the_packages_and_the_configs(wheel: Path) -> None:
    """The wheel has the library, the experiments, the plugins and configs; no name can clash."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    packages = tracked("l2keras", "l2keras_experiments", "hydra_plugins")
    assert names == packages | {f"l2keras_experiments/{name}" for name in tracked("configs")}
    assert {"l2keras/py.typed", "l2keras_experiments/configs/config.yaml",
            "l2keras_experiments/reports/templates/study.html.j2"} <= names  # fmt: skip
    assert {name.split("/")[0] for name in names} == {
        "l2keras", "l2keras_experiments", "hydra_plugins",
    }  # fmt: skip
    plugins = {name for name in names if name.startswith("hydra_plugins/")}
    assert {name.split("/")[1] for name in plugins} == {"l2keras_sweeps"}


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


def test_the_command_needs_no_other_package_to_help_and_convert(bare: Path, tmp_path: Path) -> None:
    """`l2keras --help`, `convert` and `conventions` work without Keras and without the extra."""
    told = l2keras(bare, tmp_path, "--help")
    assert told.returncode == 0, told.stderr
    for name in ("convert", "conventions", "train", "compare", "tune", "report", "check-grad", "ui",
                 "upload"):  # fmt: skip
        assert f"\n  {name} " in told.stdout
    told = l2keras(bare, tmp_path, "convert", "1e-4", "--from", "torch.SGD", "--to", "keras.L2")
    assert told.stdout.splitlines()[0] == "5e-05"
    assert "torch.SGD" in l2keras(bare, tmp_path, "conventions").stdout
    told = l2keras(bare, tmp_path, "convert", "1")
    assert told.returncode == 2
    assert told.stderr.startswith("l2keras convert: the following arguments are required")


def test_the_experiments_name_their_extra(bare: Path, tmp_path: Path) -> None:
    """Without it `l2keras train` ends in one line."""
    told = l2keras(bare, tmp_path, "train")
    assert (told.returncode, told.stderr.count("\n")) == (2, 1)
    assert told.stderr.startswith("error: `l2keras train` needs the extra `experiments`.")
    assert told.stderr.endswith("with: pip install 'l2keras[experiments]'\n")


def sweep(commands: Path, project: Path, options: Sequence[str] = ()) -> str:
    """Runs two lambdas on the user's model in `project`; returns what is printed."""
    told = l2keras(
        commands, project, "train", "--config-dir", "conf", "-m", "model=mine", "data=mine",
        "optimizer=adam", "training.epochs=3", "regularization.lam=0.01,0.1",
        "tracking.log_model=false", *options,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout[-1000:] + told.stderr[-3000:]
    return told.stdout + told.stderr


def test_a_sweep_of_ones_own_model_outside_of_the_checkout(equipped: Path, tmp_path: Path) -> None:
    """Installed, the command sweeps lambda, with plugins, configs and pages from the wheel.

    Everything is written below the working directory, and what is printed names `l2keras`.
    """
    project = shutil.copytree(ROOT / "examples" / "own_experiment", tmp_path / "project")
    printed = sweep(equipped, project, ["hydra/launcher=isolated"])
    store = Store(f"sqlite:///{project / 'runs' / 'mlflow.db'}", "l2keras")
    runs = [run for run in runs_of(store) if run.data.tags["kind"] == "trial"]
    assert [run.info.status for run in runs] == ["FINISHED"] * 2
    assert {run.data.params["model.name"] for run in runs} == {"mine.classifier"}
    assert {float(run.data.params["lambda"]) for run in runs} == {0.01, 0.1}
    assert all(run.data.metrics["test_accuracy"] >= 0 for run in runs)
    [page] = project.glob("runs/report/l2keras/*/report.html")
    assert f"page: {page}\n" in printed
    assert "MLflow UI: l2keras ui\n" in printed
    assert "oneDNN" not in printed  # of what TensorFlow writes when it loads
    html = page.read_text(encoding="utf-8")
    assert "l2keras train --config-dir conf -m model=mine data=mine" in html
    assert "l2keras report l2keras --parent " in html
    assert "python -m" not in html
    written = page.stat().st_mtime_ns
    told = l2keras(equipped, project, "report")
    assert told.returncode == 0, told.stderr
    assert f"page: {page}\n" in told.stdout
    assert page.stat().st_mtime_ns > written
    assert "2 of them settled before" in sweep(equipped, project)
    assert not {path.name for path in project.iterdir()} - {
        "README.md", "conf", "runs", "wine.csv",
    }  # fmt: skip


def test_mistakes_and_help_name_the_command(equipped: Path, tmp_path: Path) -> None:
    """Every message calls the command as the user does; a mistake leaves no file."""
    told = l2keras(equipped, tmp_path, "train", "--help")
    assert told.stdout.startswith("l2keras train [key=")
    assert told.stderr == ""
    for words, expected in {
        ("train", "seed=0,1"): "Received: seed=0,1.",
        ("compare", "-m", "seed=0,1"): "use `l2keras train`",
        ("report",): "Run `l2keras train` first",
        ("upload",): "must be those of `l2keras upload`",
        ("trian",): "Did you mean train?",
    }.items():
        told = l2keras(equipped, tmp_path, *words)
        assert (told.returncode, told.stderr.count("\n")) == (2, 1), told.stderr
        assert expected in told.stderr
    assert list(tmp_path.iterdir()) == []


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
