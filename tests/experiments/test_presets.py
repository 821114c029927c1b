"""The preset that a study ends in: what it holds, and that it composes to what was found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from experiments import cli, presets, tuning
from experiments.schema import Config, ConfigError, TuneConfig
from experiments.search import Tried
from tests.support.runs import Compose

PARAMS = {tuning.LAM: 1.2345678901234567e-05, tuning.RATE: 0.30000000000000004}
BEST = Tried(1, PARAMS, 0.25, "complete", 3, 1.0, "")
TRIALS = [replace(BEST, number=0, value=0.5, state="pruned"), BEST]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where presets are written, and where Hydra finds them by `hydra.searchpath`."""
    path = tmp_path / "experiment"
    path.mkdir()
    monkeypatch.setattr(presets, "PRESETS", path)
    return path


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["optimizer=momentum", "regularization=decoupled"],
        ["optimizer=adam", "optimizer.schedule=cosine", "optimizer.clipnorm=1.0"],
        ["data=teacher_student", "model=linear", "data.num_train=80", "data.target_noise=0.1"],
        ["data=digits_tokens", "model=transformer", "regularization=independent"],
        ["seed=3", "device=cpu", "backend=tensorflow", "training.dtype=float64"],
        ["training.mixed_precision=bfloat16", "training.progress=false", "model.activation=tanh"],
        ["experiment=smoke", "data.label_noise=0.2", "regularization=builtin_l2"],
    ],
)
def test_the_preset_composes_to_what_was_found(
    composed: Compose, folder: Path, overrides: list[str]
) -> None:
    """`experiments.train experiment=NAME` has the config of the best trial, to the last bit."""
    config: TuneConfig = cli.typed(composed("tune", "tune.preset=round_trip", *overrides))
    path = presets.write_preset(config, "study-1", TRIALS, BEST)
    where = [f"hydra.searchpath=[file://{folder.parent}]", f"experiment={path.stem}"]
    loaded: Config = cli.typed(composed("config", *where))
    expected = tuning.run_config(config, PARAMS, config.seed)
    ignored: dict[str, Any] = {
        "tracking": loaded.tracking,
        "training": replace(expected.training, progress=loaded.training.progress),
    }
    assert loaded == replace(expected, **ignored)
    assert presets.command(config) == f"python -m experiments.train experiment={path.stem}"


def test_it_holds_its_question_and_only_differences(composed: Compose, folder: Path) -> None:
    """The preset opens with question, roles, command and origin, and holds only what differs."""
    config = cli.typed(composed("tune", "optimizer=momentum", "training.epochs=5"))
    path = presets.write_preset(config, "study-1", TRIALS, BEST)
    assert path.name == "tuned_digits_mlp_half_l2_momentum.yaml"
    text = path.read_text()
    assert text.startswith("# @package _global_\n# Question: ")
    for word in (
        "# Scientific: none.", "Nuisance: regularization.lam, optimizer.learning_rate", "Fixed:",
        "# Command: python -m experiments.train experiment=tuned_digits_mlp_half_l2_momentum\n",
        "study study-1\n", "trial 1 of 2 (1 complete, 1 pruned)", "val_data_loss 0.25, one seed",
    ):  # fmt: skip
        assert word in text
    assert all(len(line) <= 100 for line in text.splitlines())
    assert OmegaConf.to_container(OmegaConf.load(path)) == {
        "defaults": [
            {"override /data": "digits"},
            {"override /model": "mlp"},
            {"override /optimizer": "sgd"},
            {"override /regularization": "half_l2"},
        ],
        "optimizer": {"learning_rate": 0.30000000000000004, "momentum": 0.9},
        "regularization": {"lam": 1.2345678901234567e-05},
        "training": {"epochs": 5},
    }
    assert list(folder.iterdir()) == [path]


def test_a_preset_written_by_hand_is_not_overwritten(composed: Compose, folder: Path) -> None:
    """A name taken by hand is refused before the search; one that tune wrote is written anew."""
    (folder / "mine.yaml").write_text("# @package _global_\n")
    with pytest.raises(ConfigError, match=r"written by hand\. Received: tune\.preset=mine"):
        presets.check_preset(cli.typed(composed("tune", "tune.preset=mine")))
    config = cli.typed(composed("tune", "tune.preset=other"))
    for _ in range(2):
        presets.check_preset(config)
        assert presets.write_preset(config, "study-1", TRIALS, BEST).name == "other.yaml"


@pytest.mark.parametrize("name", ["../mine", "a/b", "a b", "''", ".hidden"])
def test_a_preset_needs_a_name(composed: Compose, folder: Path, name: str) -> None:
    """A name that is a path, or that Hydra could not read, is refused."""
    config = cli.typed(composed("tune"))
    config.tune.preset = name
    with pytest.raises(
        ConfigError, match=r"must be a name of up to 200 letters.*Received: tune\.preset="
    ):
        presets.check_preset(config)
