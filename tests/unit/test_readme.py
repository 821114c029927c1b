"""The commands, files and overrides that the README names are there."""

from __future__ import annotations

import re
import shlex

from tests.support import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_commands_and_files_exist() -> None:
    """Every `make` target, module and file that it names is there."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for module in re.findall(r"python -m ((?:experiments|benchmarks)\.\w+)", README):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
    for path in re.findall(r"\]\(([\w./]+)\)", README):
        assert (ROOT / path).exists(), path


def test_its_overrides_are_valid() -> None:
    """Every override in its commands names a key, a group and an option that exist."""
    from l2keras_experiments.commands import command_line
    from l2keras_experiments.config.overrides import check_overrides
    from l2keras_experiments.config.schema import CompareConfig, Config

    command_line.register("train", Config, "experiments.train")  # which makes the launchers known
    for module, words in re.findall(r"experiments\.(train|compare) (.*)", README):
        command = shlex.split(words.partition("`")[0].rstrip("\\"), comments=True)
        overrides = [word for word in command if "=" in word]
        check_overrides(overrides, CompareConfig if module == "compare" else Config)
