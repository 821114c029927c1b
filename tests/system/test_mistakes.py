"""Some 300 hostile inputs, drawn anew by each seed: no traceback, no file, one line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.support.commands import answer, check_mistake, contained
from tests.support.fuzzing import Case, cases

SEED, NUMBER = 19, 300


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the runs of these commands would go."""
    with pytest.MonkeyPatch.context() as patch:
        yield contained(patch, tmp_path_factory.mktemp("mistakes"))


def ask(case: Case, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Runs a case and asserts that it is right or a mistake that is told in one line."""
    for name, text in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")
    for name, text in case.environment.items():
        patch.setenv(name, text)
    given = answer(case.command, [word.replace("{folder}", str(folder)) for word in case.arguments])
    runs = folder.parent / "runs"
    if given.status == 0:
        assert "Traceback" not in given.out + given.err
        assert given.err.count("\n") <= 1
        assert not runs.exists()
        if case.arguments[:2] == ("--cfg", "job"):
            assert "seed" in OmegaConf.create(given.out)
    else:
        check_mistake(given, runs)
    for name, text in case.files.items():  # of upload: what is not sent stays
        assert (folder / name).read_text("utf-8", errors="surrogatepass") == text


def test_hostile_inputs(runs: Path) -> None:
    """Every input is a valid config or ends in one line with status 2, and leaves nothing."""
    wrong = []
    for number, case in enumerate(cases(SEED, NUMBER)):
        start = time.monotonic()
        with pytest.MonkeyPatch.context() as patch:
            try:
                ask(case, runs.parent / f"case{number}", patch)
            except Exception as error:
                wrong.append(f"{case}\n    {error}")
        if time.monotonic() - start > 10:  # seconds; a mistake takes a tenth of one
            wrong.append(f"{case}\n    took {time.monotonic() - start:.1f} s")
    assert not wrong, f"{len(wrong)} of {NUMBER}:\n" + "\n".join(wrong)
