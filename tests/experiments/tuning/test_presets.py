"""The preset that a study ends in: what it holds, and that it composes to what was found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from l2keras_experiments.commands import validation
from l2keras_experiments.config.schema import Config, ConfigError, TuneConfig
from l2keras_experiments.tuning import presets, space
from l2keras_experiments.tuning.search import Tried
from tests.support.runs import Compose

PARAMS = {space.LAM: 1.2345678901234567e-05, space.RATE: 0.30000000000000004}
BEST = Tried(1, PARAMS, 0.25, "complete", 3, 1.0, "")
MLP = "l2keras_experiments.training.models.mlp"
OPTIONS = {"data": "csv", "model": "mine", "optimizer": "sgd", "regularization": "half_l2"}
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
    config: TuneConfig = validation.typed(composed("tune", "tune.preset=round_trip", *overrides))
    path = presets.write_preset(config, "study-1", TRIALS, BEST)
    where = [f"hydra.searchpath=[file://{folder.parent}]", f"experiment={path.stem}"]
    loaded: Config = validation.typed(composed("config", *where))
    expected = space.run_config(config, PARAMS, config.seed)
    ignored: dict[str, Any] = {
        "tracking": loaded.tracking,
        "training": replace(expected.training, progress=loaded.training.progress),
    }
    assert loaded == replace(expected, **ignored)
    assert presets.command(config) == f"python -m experiments.train experiment={path.stem}"


def test_it_holds_its_question_and_only_differences(composed: Compose, folder: Path) -> None:
    """The preset opens with question, roles, command and origin, and holds only what differs."""
    config = validation.typed(composed("tune", "optimizer=momentum", "training.epochs=5"))
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
            {"override /optimizer": "momentum"},
            {"override /regularization": "half_l2"},
        ],
        "optimizer": {"learning_rate": 0.3},
        "regularization": {"lam": 1.235e-05},
        "training": {"epochs": 5},
    }
    assert list(folder.iterdir()) == [path]


def test_a_preset_of_ones_own_options(
    composed: Compose, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes to the own config folder, says all of its options again, and finds the table."""
    own = tmp_path / "own"
    (own / "model").mkdir(parents=True)
    (own / "model" / "mine.yaml").write_text(f"_target_: {MLP}\nwidth: 64\n")
    (own / "table.csv").write_text("x,y\n1,a\n2,b\n")
    monkeypatch.chdir(own)
    monkeypatch.setattr(presets, "_own_folders", lambda: [own])
    monkeypatch.setattr(presets, "_option", lambda group, section: OPTIONS[group])
    path = f"hydra.searchpath=[file://{own}]"
    config = validation.typed(
        composed("tune", path, "model=mine", "model.width=128", "data=csv", "data.path=table.csv",
                 "data.target=y")
    )  # fmt: skip
    written = presets.write_preset(config, "study-1", TRIALS, BEST)
    assert written == own / "experiment" / "tuned_table_mlp_half_l2_sgd.yaml"
    tree: Any = OmegaConf.to_container(OmegaConf.load(written))
    assert tree["model"] == {"_target_": MLP, "width": 128}  # as is the default of the built-in
    assert tree["data"] == {"path": "${config_dir:}/table.csv", "target": "y"}
    assert presets.command(config) == (
        f"python -m experiments.train --config-dir {own} experiment={written.stem}"
    )
    monkeypatch.chdir(tmp_path)
    loaded = validation.typed(composed("config", path, f"experiment={written.stem}"))
    assert (loaded.model, loaded.data.name) == (config.model, "table")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("folder_of_file", "written"),
    [("own/conf", "${config_dir:}/t.csv"), ("own", "${config_dir:}/../t.csv"), ("away", None)],
)
def test_a_file_moves_with_the_config_folder(
    folder_of_file: str, written: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the folder, with what lies beside it, finds its own file; another file stays."""
    (tmp_path / "own" / "conf").mkdir(parents=True)
    file = tmp_path / folder_of_file / "t.csv"
    file.parent.mkdir(exist_ok=True)
    file.write_text("x,y\n1,a\n")
    monkeypatch.setattr(presets, "_own_folders", lambda: [tmp_path / "own" / "conf"])
    monkeypatch.setattr(presets, "_option", lambda group, section: "mine")
    config = Config()
    config.data.arguments = {"options": {"files": [str(file)]}}
    found = presets.overrides(config)["data"]["options"]
    assert found == {"files": [written or str(file)]}


def test_the_name_of_a_preset_can_be_typed(composed: Compose, tmp_path: Path) -> None:
    """What a file is called may hold anything."""
    (tmp_path / "my data (1).csv").write_text("x,y\n1,a\n")
    config = validation.typed(composed("tune"))
    config.data.arguments["path"] = str(tmp_path / "my data (1).csv")
    assert presets.preset_name(config) == "tuned_my-data-1-_mlp_half_l2_sgd"
    config.model.target = "mine.nets.wide"
    assert presets.preset_name(config) == "tuned_my-data-1-_mine-nets-wide_half_l2_sgd"
    presets.check_preset(config)


def test_the_test_metrics_of_the_best_are_in_the_preset(composed: Compose, folder: Path) -> None:
    """Beside the value that selected it."""
    best = replace(BEST, test={"test_data_loss": 0.5, "test_accuracy": 0.75})
    path = presets.write_preset(validation.typed(composed("tune")), "study-1", TRIALS, best)
    assert "# On the test examples: test accuracy 0.75, test data loss 0.5.\n" in path.read_text()


def test_a_preset_written_by_hand_is_not_overwritten(composed: Compose, folder: Path) -> None:
    """A name taken by hand is refused before the search; one that tune wrote is written anew."""
    (folder / "mine.yaml").write_text("# @package _global_\n")
    with pytest.raises(ConfigError, match=r"written by hand\. Received: tune\.preset=mine"):
        presets.check_preset(validation.typed(composed("tune", "tune.preset=mine")))
    config = validation.typed(composed("tune", "tune.preset=other"))
    for _ in range(2):
        presets.check_preset(config)
        assert presets.write_preset(config, "study-1", TRIALS, BEST).name == "other.yaml"


@pytest.mark.parametrize("name", ["../mine", "a/b", "a b", "''", ".hidden"])
def test_a_preset_needs_a_name(composed: Compose, folder: Path, name: str) -> None:
    """A name that is a path, or that Hydra could not read, is refused."""
    config = validation.typed(composed("tune"))
    config.tune.preset = name
    with pytest.raises(
        ConfigError, match=r"must be a name of up to 200 letters.*Received: tune\.preset="
    ):
        presets.check_preset(config)
