"""The README does what it says."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.support import ROOT
from tests.support.models import BACKEND

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_its_python_blocks_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Every Python block runs, one after the other, and the callback's logs are printed."""
    names: dict[str, object] = {}
    assert len(BLOCKS) == 11
    for block in BLOCKS:
        if "import tensorflow" in block and BACKEND != "tensorflow":
            continue
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "[0.01" in printed
    assert re.search(r"^0\.90[3-6]", printed, re.MULTILINE)  # bfloat16
    assert BACKEND != "tensorflow" or re.search(r"^0\.92[23]", printed, re.MULTILINE)  # lazy
    lines = {line.strip() for line in printed.splitlines()}
    (shown,) = re.findall(r"^    Decay of .*?^    \.\.\.$", README, flags=re.MULTILINE | re.DOTALL)
    for line in shown.splitlines()[:-1]:
        assert line.strip() in lines, line


def test_its_commands_and_files_exist() -> None:
    """Every `make` target, module and file that it names is there."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for module in re.findall(r"python -m ((?:experiments|benchmarks)\.\w+)", README):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
    for path in re.findall(r"\]\(([\w./]+)\)", README):
        assert (ROOT / path).exists(), path


@pytest.mark.skipif(BACKEND != "tensorflow", reason="needs the experiments, once")
def test_its_overrides_are_valid() -> None:
    """Every override in its commands names a key, a group and an option that exist."""
    from experiments import cli
    from experiments.schema import CompareConfig, Config

    cli.register("train", Config, "experiments.train")  # which makes the launchers known
    for module, words in re.findall(r"experiments\.(train|compare) (.*)", README):
        command = shlex.split(words.partition("`")[0].rstrip("\\"), comments=True)
        overrides = [word for word in command if "=" in word]
        cli.check_overrides(overrides, CompareConfig if module == "compare" else Config)
