"""The Python of the README does what it says."""

from __future__ import annotations

import re

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
