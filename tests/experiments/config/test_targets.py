"""Targets: found and checked in their source, called with what they take."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from l2keras_experiments.config import targets
from l2keras_experiments.config.schema import ConfigError

SUPPLIED = ("input_shape", "num_outputs")


def write(path: Path, source: str) -> None:
    path.write_text(textwrap.dedent(source))
    importlib.invalidate_caches()  # two files may be written in one tick of the clock


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to import from, with mine.py and beside.py; its modules are forgotten."""
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path / "beside.py", "from math import pi\n\ndef helped(x: int = 1): return x\n")
    source = """
        from beside import helped
        from beside import helped as again
        raise RuntimeError("imported")

        def build(input_shape, num_outputs, width: int, rate: float = 0.5, name: str | None = None):
            return input_shape, num_outputs, width, rate

        def open(input_shape, **options): ...

        class Layer:
            def __init__(self, units: int, bias: bool = True): ...
        """
    write(tmp_path / "mine.py", source)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "mine.build", "width": 3},
        {"_target_": "mine.build", "width": 3, "rate": 1},
        {"_target_": "mine.build", "width": 3, "name": None},
        {"_target_": "mine.open", "anything": object()},
        {"_target_": "mine.Layer", "units": 3, "bias": False},
        {"_target_": "mine.again", "x": 3},
        {"_target_": "mine.build", "_partial_": True},
        {"_target_": "mine.build", "width": {"_target_": "mine.again", "x": 1}},
        {"_target_": "keras.optimizers.Adam", "beta_1": 0.5},
    ],
)
def test_what_a_target_takes_is_accepted(node: dict[str, Any], folder: Path) -> None:
    targets.check("model", node, SUPPLIED)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "mine.build", "widht": 3}, r"Received: model.widht=3. Did you mean width\?"),
        ({"_target_": "mine.build"}, "Received: no width. Set model.width="),
        (
            {"_target_": "mine.build", "width": "x"},
            "`model.width` must be a whole number. Received",
        ),
        ({"_target_": "mine.build", "width": True}, "`model.width` must be a whole number"),
        ({"_target_": "mine.build", "width": 1, "rate": "x"}, "`model.rate` must be a number"),
        ({"_target_": "mine.build", "width": 1, "name": 2}, "must be a text or null"),
        ({"_target_": "mine.Layer", "units": 1, "bias": 1}, "must be true or false"),
        ({"_target_": "mine.biuld"}, "mine.py has no biuld. Did you mean mine.build"),
        ({"_target_": "mine.again", "y": 3}, "Received: model.y=3. Valid: x"),
        ({"_target_": "nowhere.build"}, "no module nowhere. Pass --config-dir"),
        ({"_target_": "build"}, "must be module.function. Received: 'build'"),
        ({"_target_": "mine.a b"}, "must be module.function. Received: mine.a b"),
        ({"_target_": None}, "must be module.function. Received: None"),
        ({}, "must be module.function. Received: None"),
        ({"_target_": "mine.build", "width": {"_target_": "mine.nope"}}, "`model.width._target_`"),
        (
            {"_target_": "mine.build", "width": [{"_target_": "mine.nope"}]},
            "`model.width.0._target",
        ),
        ({"_target_": "keras.optimizers.Adma"}, "Did you mean keras.optimizers.Adam"),
    ],
)
def test_a_mistake_is_named_without_an_import(
    node: dict[str, Any], message: str, folder: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        targets.check("model", node, SUPPLIED)
    assert "mine" not in sys.modules


def test_a_module_that_is_no_python_is_named_with_its_line(folder: Path) -> None:
    write(folder / "broken.py", "x = 1\ndef f(:\n")
    with pytest.raises(ConfigError, match=r"Received: .*broken.py, line 2: "):
        targets.check("model", {"_target_": "broken.f"})


def test_keras_is_not_imported_to_check_an_optimizer() -> None:
    code = (
        "import sys; from l2keras_experiments.config import targets;"
        "targets.check('optimizer', {'_target_': 'keras.optimizers.AdamW', 'beta_1': 0.5});"
        "assert 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "keras.layers.Dense", "units": 5, "unit": 5}, "Did you mean units"),
        ({"_target_": "keras.layers.LSTM", "units": 5, "droput": 0.1}, "Did you mean dropout"),
        ({"_target_": "keras.layers.Dense", "units": 5, "use_bias": "on"}, "must be true or false"),
        ({"_target_": "keras.optimizers.Adam", "beta_1": "high"}, "must be a number.*=high"),
    ],
)
def test_what_keras_does_not_take_is_named_without_it(node: dict[str, Any], message: str) -> None:
    """Also inside of another node, and though Keras' signatures end in **kwargs."""
    with pytest.raises(ConfigError, match=rf"k\.inner.*{message}"):
        targets.check("k", {"_target_": "builtins.dict", "inner": node})


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "keras.layers.Dense", "units": 5, "name": "a", "dtype": "float32"},
        {"_target_": "keras.layers.Dense", "units": 5, "input_shape": [3]},
        {"_target_": "keras.layers.Conv2D", "filters": 5, "kernel_size": 3, "lora_rank": 2},
        {"_target_": "keras.layers.BatchNormalization", "epsilon": None, "trainable": False},
        {"_target_": "keras.optimizers.Adam", "beta_1": 1, "clipnorm": 1.0, "name": "x"},
    ],
)
def test_what_keras_takes_through_a_base_is_accepted(node: dict[str, Any]) -> None:
    targets.check("k", node)


def test_a_target_gets_what_is_supplied_where_it_takes_it(folder: Path) -> None:
    write(folder / "good.py", "def one(a, b=2): return a, b\ndef any(**k): return k\n")
    assert targets.instantiate("k", {"_target_": "good.one", "b": 5}, a=1, c=3) == (1, 5)
    assert targets.instantiate("k", {"_target_": "good.any", "b": 2}, a=1) == {"b": 2}
    through = targets.instantiate("k", {"_target_": "good.any"}, through_kwargs=True, a=1)
    assert through == {"a": 1}
    later = targets.instantiate("k", {"_target_": "good.one", "_partial_": True, "b": 7})
    assert later(1) == (1, 7)
    nested = {"_target_": "good.one", "b": {"_target_": "good.one", "a": 0}}
    assert targets.instantiate("k", nested, a=1) == (1, (0, 2))


def test_the_error_of_an_import_and_of_a_call_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.build, which raised RuntimeError: imported"):
        targets.instantiate("model", {"_target_": "mine.build", "width": 3})
    write(folder / "bad.py", "def f():\n    raise ValueError('too\\n wide')\n")
    with pytest.raises(targets.TargetError, match=r"bad\.f raised ValueError: too wide") as caught:
        targets.instantiate("model", {"_target_": "bad.f"})
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_hash_changes_with_a_module_and_what_lies_beside_it(folder: Path) -> None:
    node = {"model": {"_target_": "mine.build"}, "seed": 0}
    first = targets.source_hash(node)
    assert len(first) == 16
    assert targets.source_hash(node) == first
    beside = folder / "beside.py"
    write(beside, beside.read_text() + "# edited\n")
    second = targets.source_hash(node)
    assert second != first
    write(folder / "unused.py", "")
    assert targets.source_hash(node) == second


def test_our_own_targets_have_no_source_of_the_users() -> None:
    assert targets.source_hash({"_target_": "keras.optimizers.Adam"}) == ""
    assert targets.source_hash({"lam": 0.1}) == ""


def test_a_package_is_hashed_whole(folder: Path) -> None:
    """What a package imports from itself counts; what is installed does not."""
    package = folder / "own"
    package.mkdir()
    write(package / "__init__.py", "import json\n")
    write(package / "nets.py", "from .parts import block\n\ndef net(): ...\n")
    write(package / "parts.py", "def block(): ...\n")
    node = {"model": {"_target_": "own.nets.net"}}
    first = targets.source_hash(node)
    write(package / "parts.py", "def block(): return 1\n")
    assert targets.source_hash(node) != first


def test_a_flattened_config_has_the_same_hash(folder: Path) -> None:
    nested = {"model": {"_target_": "mine.build", "width": 3}}
    assert targets.source_hash({"model._target_": "mine.build"}) == targets.source_hash(nested)


def test_names_are_found_however_they_are_bound(folder: Path) -> None:
    """Under `try`, by assignment, from a package; what the source does not tell passes."""
    package = folder / "many"
    package.mkdir()
    write(package / "__init__.py", "from .one import f as g\nfrom math import *\n")
    source = """
        try:
            import nothing
        except ImportError:
            def f(a): ...
        made = wrapped = functools.partial(f, 1)
        class Plain(Base): ...
        @decorated
        def hidden(a): ...
        """
    write(package / "one.py", source)
    for target in ("many.g", "many.one.f"):
        with pytest.raises(ConfigError, match=r"Received: model\.b=1\. Valid: a"):
            targets.check("model", {"_target_": target, "b": 1})
    for target in ("many.cos", "many.one.made", "many.one.Plain", "many.one.hidden"):
        targets.check("model", {"_target_": target, "b": 1})
    with pytest.raises(ConfigError, match=r"one\.py has no nothing_else"):
        targets.check("model", {"_target_": "many.one.nothing_else"})


def test_what_a_target_takes_is_read_from_its_source(folder: Path) -> None:
    names = ["input_shape", "num_outputs", "width", "rate", "name"]
    assert list(targets.accepted("mine.build")) == names
    assert targets.accepted("mine.build")["rate"].default == "0.5"
    assert list(targets.accepted("mine.Layer")) == ["units", "bias"]


def test_arguments_that_the_source_does_not_tell_are_checked_after_the_import(
    folder: Path,
) -> None:
    source = """
        from dataclasses import dataclass

        @dataclass
        class Made:
            width: int
        """
    write(folder / "made.py", source)
    targets.check("model", {"_target_": "made.Made", "widht": 3})
    with pytest.raises(ConfigError, match=r"model\.widht=3\. Did you mean width\?"):
        targets.instantiate("model", {"_target_": "made.Made", "widht": 3})
    assert targets.instantiate("model", {"_target_": "made.Made", "width": 3}).width == 3


def test_a_folder_is_importable_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    targets.make_importable([tmp_path])
    targets.make_importable([tmp_path])
    assert sys.path == [str(tmp_path), "elsewhere"]
