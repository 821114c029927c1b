"""A key, an option or a package in a config file that does not exist: the nearest is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import answer, check_mistake, contained

GLOBAL = "# @package _global_\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the runs of these commands would go."""
    with pytest.MonkeyPatch.context() as patch:
        yield contained(patch, tmp_path_factory.mktemp("mistakes"))


@pytest.mark.parametrize(
    ("group", "text", "message"),
    [
        (
            "experiment",
            f"{GLOBAL}training: {{epoch: 3}}",
            r"Received: training\.epoch in experiment/mine\.yaml\. Did you mean training\.epochs\?",
        ),
        ("experiment", f"{GLOBAL}optimzer: {{learning_rate: 1}}", r"Did you mean optimizer\?"),
        ("experiment", f"{GLOBAL}tune: {{num_trials: 3}}", "no such key. Received: tune in exper"),
        ("training", "epoch: 3", r"Did you mean training\.epochs\?"),
        ("experiment", "training: {epochs: 3}", "must begin with the line `# @package _global_`"),
        (
            "experiment",
            f"{GLOBAL}defaults: [override /model: mpl]",
            r"no such option\. Received: model=mpl in a list .*Did you mean mlp\?",
        ),
        (
            "experiment",
            f"{GLOBAL}defaults: [override /model: 1]",
            r"must read as a text\. Received: one that reads as int in experiment/mine\.yaml",
        ),
        ("optimizer", "_target_: keras.optimizers.Adam\nbeta1: 0.9", r"Did you mean beta_1\?"),
    ],
)
def test_the_file_and_the_nearest_are_named(
    group: str, text: str, message: str, runs: Path, tmp_path: Path
) -> None:
    (tmp_path / group).mkdir()
    (tmp_path / group / "mine.yaml").write_text(text)
    given = answer("train", ["--config-dir", str(tmp_path), f"{group}=mine"])
    check_mistake(given, runs)
    assert re.search(message, given.err), given.err


@pytest.mark.parametrize(
    ("option", "kind"),
    [("nan", "a number"), ("null", "null"), ("1", "a number"), ("1e3", "a number"),
     ("true", "true or false")],
)  # fmt: skip
def test_an_option_that_does_not_read_as_a_text(
    option: str, kind: str, runs: Path, tmp_path: Path
) -> None:
    """In a run and in a sweep. Quoted, it is an option."""
    (tmp_path / "model").mkdir()
    file = tmp_path / "model" / f"{option}.yaml"
    file.write_text("_target_: l2keras_experiments.training.models.linear\n")
    for typed in ([f"model={option}"], ["-m", f"model=mlp,{option}"]):
        given = answer("train", ["--config-dir", str(tmp_path), *typed])
        check_mistake(given, runs)
        assert f"Received: {typed[-1]}, which reads as {kind}. Rename {option}.yaml" in given.err
    for quoted in ([f"model='{option}'", "--cfg", "job"], ["-m", f"model='mlp','{option}'"]):
        given = answer("train", ["--config-dir", str(tmp_path), *quoted])
        assert (given.status, given.err) == (0, ""), quoted


def test_null_is_no_option(runs: Path) -> None:
    given = answer("train", ["experiment=null"])
    check_mistake(given, runs)
    assert "name of an option. Received: experiment=null. Leave it out, or choose" in given.err
