"""What the commands share: early answers to mistakes, --help."""

from __future__ import annotations

from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from l2keras_experiments.commands import command_line, validation
from l2keras_experiments.config import composition, credentials, flattening, overrides, schema
from l2keras_experiments.config.schema import CompareConfig, Config, ConfigError
from tests.support.runs import Compose, mistake


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("regularisation=half_l2", "regularization"),
        ("training.epoch=3", "training.epochs"),
        ("lr=0.1", "optimizer.learning_rate"),
        ("lambda=0.1", "regularization.lam"),
        ("epochs=3", "training.epochs"),
        ("+training.epochs=3", "training.epochs"),
        ("++training.epoch=3", "training.epochs"),
    ],
)
def test_mistyped_key_names_the_nearest(override: str, nearest: str) -> None:
    """A key that does not exist raises and names the nearest valid one."""
    with pytest.raises(ConfigError, match=f"Did you mean {nearest}\\?"):
        overrides.check_overrides([override], Config)


@pytest.mark.parametrize(
    ("override", "nearest"),
    [("regularization.lamb=0.1", "lam"), ("optimizer.lr=0.1", "learning_rate"),
     ("optimizer.momentun=0.9", "momentum"), ("model.widht=3", "width"),
     ("data.num_trian=5", "num_train")],
)  # fmt: skip
def test_mistyped_key_of_an_open_group_names_the_nearest(
    composed: Compose, override: str, nearest: str
) -> None:
    """Among the keys of the group and the arguments of its target."""
    with pytest.raises(ConfigError, match=f"Received: {override}. Did you mean {nearest}\\?"):
        validation.typed(composed("config", override))


@pytest.mark.parametrize("override", ["~optimizer", "~optimizer=sgd", "data=null"])
def test_groups_cannot_be_taken_out(override: str) -> None:
    """A group that is deleted or null raises before anything runs."""
    with pytest.raises(ConfigError, match="Received: "):
        overrides.check_overrides([override], Config)


@pytest.mark.parametrize(
    ("override", "nearest"),
    [("regularization=halfl2", "half_l2"), ("optimizer=sgd,adm", "adam"), ("data=minst", "mnist"),
     ("hydra/launcher=isolate", "isolated"), ("hydra/launcher=slurm", "submitit_slurm")],
)  # fmt: skip
def test_mistyped_option_names_the_nearest(override: str, nearest: str) -> None:
    """An option that its group does not have raises and names the nearest one, in a sweep too."""
    with pytest.raises(ConfigError, match=f"Did you mean {nearest}\\?"):
        overrides.check_overrides([override], Config)


def test_valid_overrides_pass() -> None:
    """Keys, groups, sweeps and Hydra's own keys are left to Hydra."""
    overrides.check_overrides(
        ["seed=0,1", "regularization=half_l2,none", "training.epochs=range(1,3)",
         "hydra.run.dir=x", "hydra/launcher=basic", "experiment=adam"],
        Config,
    )  # fmt: skip


def test_unreadable_override() -> None:
    """An override that is no key=value at all raises with what came."""
    with pytest.raises(ConfigError, match=r"key=value\. Received: seed=\[1,"):
        overrides.check_overrides(["seed=[1,"], Config)


def test_help_shows_every_group_and_key(composed: Compose) -> None:
    """--help names every group with its options, and every key with its default."""
    groups = composition.default_found().groups()
    text = command_line.help_text(CompareConfig, "experiments.compare", groups, composed("compare"))
    for key, item, _ in schema.keys(CompareConfig):
        assert f"{key}=" in text
        assert item.metadata["help"].replace("$", "$$") in text
    for group, options in groups.items():
        assert f"{group}={'|'.join(options)}" in text
    assert "model.* of l2keras_experiments.training.models.mlp: width=128, depth=2, " in text


def test_help_offers_a_sweep_where_there_is_one(composed: Compose) -> None:
    """Only experiments.train is a job of a sweep; its help names every launcher."""
    text = command_line.help_text(Config, "experiments.train", {}, composed("config"))
    assert "-m for a sweep" in text
    for launcher in ("isolated", "joblib", "ray", "submitit_local", "submitit_slurm"):
        assert launcher in text
    node = composed("compare")
    text = command_line.help_text(CompareConfig, "experiments.compare", {}, node)
    assert "sweep over" not in text


def test_a_config_error_before_any_backend() -> None:
    """A mistyped key ends the command with status 2 and one line, no heavy package loaded."""
    told = mistake("experiments.train", "regularization.lamb=0.1")
    assert "Received: regularization.lamb=0.1. Did you mean lam?" in told


def test_typed_config_of_the_defaults(composed: Compose) -> None:
    """The composed defaults come back as the dataclass, with enums for choices."""
    config: Any = validation.typed(composed("config"))
    assert type(config) is Config
    assert config.device is schema.Device.auto
    assert type(validation.typed(composed("compare"))) is CompareConfig


@pytest.mark.parametrize(
    "override",
    ["training.epochs=0", "data.num_train=0", "optimizer.momentum=2", "regularization.name=l2"],
)
def test_typed_config_refuses_what_cannot_be(composed: Compose, override: str) -> None:
    """A value that a run could not use raises before anything heavy is imported."""
    with pytest.raises(ConfigError, match="Received"):
        validation.typed(composed("config", override))


def test_flatten_gives_dotted_plain_values(composed: Compose) -> None:
    """The flattened config has dotted keys and plain values, enums by name; arguments, too."""
    flat = flattening.flatten(composed("config", "training.mixed_precision=bfloat16"))
    assert flat["training.mixed_precision"] == "bfloat16"
    assert flat["backend"] is None
    assert flat["model.width"] == 128
    assert {key for key, _, _ in schema.keys(Config)} <= set(flat)
    assert set(flat) == set(schema.flat(validation.typed(composed("config"))))


def test_no_password_is_recorded(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run keeps of its config has the address of the store, not its password."""
    monkeypatch.setenv("L2KERAS_SEALED", "{}")
    given = composed("config", "tracking.uri=postgresql://me:secret@host/mlflow")
    assert flattening.recorded(given).tracking.uri == "postgresql://me:***@host/mlflow"
    assert given.tracking.uri == "postgresql://me:***@host/mlflow"
    assert credentials.revealed(given.tracking.uri) == "postgresql://me:secret@host/mlflow"
    assert flattening.recorded(composed("config")).tracking.uri is None


def test_a_mistake_in_a_sweep_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a multirun a ConfigError is raised, so that the other jobs run; alone it exits with 2."""
    modes = {"mode": RunMode.MULTIRUN}
    monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create(modes))

    def fail(node: Any) -> None:
        raise ConfigError("no")

    with pytest.raises(ConfigError):
        command_line.task(fail, OmegaConf.create())
    modes["mode"] = RunMode.RUN
    with pytest.raises(SystemExit, match="2"):
        command_line.task(fail, OmegaConf.create())
