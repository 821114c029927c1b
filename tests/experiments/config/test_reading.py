"""A config file has a largest size, and so has what its aliases and interpolations stand for."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import answer, check_mistake, contained

BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i}\n  <<: [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the runs of these commands would go."""
    with pytest.MonkeyPatch.context() as patch:
        yield contained(patch, tmp_path_factory.mktemp("mistakes"))


@pytest.mark.parametrize(
    "text",
    [BOMB, MERGES, "a: [" + "x, " * 10_000 + "]", "a: " + "x" * 1_100_000, f"defaults:\n- {BOMB}"],
    ids=["aliases", "merges", "long", "bytes", "defaults"],
)
@pytest.mark.parametrize("way", ["--config-dir", "hydra.searchpath", "--config-path", "preset"])
def test_a_file_has_a_largest_size(way: str, text: str, runs: Path, tmp_path: Path) -> None:
    """Aliases of aliases, which stand for 2**60 values, and files that are long themselves."""
    words = {
        "--config-dir": ["--config-dir", str(tmp_path), "model=mine"],
        "hydra.searchpath": [f"hydra.searchpath=[file://{tmp_path}]", "model=mine"],
        "--config-path": ["--config-path", str(tmp_path), "--config-name", "mine"],
        "preset": ["--config-dir", str(tmp_path), "experiment=mine"],
    }
    file = tmp_path / {"--config-path": "", "preset": "experiment"}.get(way, "model") / "mine.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(("# @package _global_\n" if way == "preset" else "") + text)
    begin = time.monotonic()
    given = answer("train", [*words[way], "--cfg", "job"])
    assert time.monotonic() - begin < 60  # of seconds; it takes a tenth of one, 2**60 values years
    check_mistake(given, runs)
    assert re.search(r"at most \d+ .*Received: \S*mine.yaml", given.err), given.err


@pytest.mark.parametrize(
    "twice",
    [
        '"${model.aN}${.aN}"', '["${model.aN}", "${..aN}"]', '{x: "${model.aN}", y: "${..aN}"}',
        '"${oc.select:model.aN}${.aN}"',
    ],
)  # fmt: skip
def test_interpolations_stand_for_so_much(twice: str, runs: Path, tmp_path: Path) -> None:
    """Each of 60 keys is twice the one before it: as text, as a list, as a mapping."""
    (tmp_path / "model").mkdir()
    lines = [f"a{i}: {twice.replace('N', str(i - 1))}" for i in range(1, 60)]
    (tmp_path / "model" / "mine.yaml").write_text("\n".join(["a0: x", *lines]))
    given = answer("train", ["--config-dir", str(tmp_path), "model=mine", "--cfg", "job"])
    check_mistake(given, runs)
    assert "Interpolations must stand for at most 5000 values" in given.err


def test_defaults_name_so_many_files(runs: Path, tmp_path: Path) -> None:
    """Each of 22 files has the one before it twice."""
    (tmp_path / "model").mkdir()
    for i in range(22):
        text = f"defaults:\n- f{i - 1}@a\n- f{i - 1}@b\n" if i else "x: 1\n"
        (tmp_path / "model" / f"f{i}.yaml").write_text(text)
    given = answer("train", ["--config-dir", str(tmp_path), "model=f21", "--cfg", "job"])
    check_mistake(given, runs)
    assert "at most 2000 files" in given.err


def test_a_file_of_that_size_is_read(runs: Path, tmp_path: Path) -> None:
    """A long list, and aliases that say twice what is meant twice."""
    (tmp_path / "experiment").mkdir()
    text = f"# @package _global_\nregularization: {{include: &a [{'x, ' * 2000}], exclude: *a}}"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    given = answer("train", ["--config-dir", str(tmp_path), "experiment=mine", "--cfg", "job"])
    assert (given.status, given.err) == (0, "")
