"""Open groups between Hydra's config and the dataclasses."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from l2keras_experiments.config import nodes, paths, schema
from l2keras_experiments.config.schema import (
    CompareConfig,
    Config,
    ConfigError,
    DataConfig,
    Dtype,
    ModelConfig,
    TuneConfig,
)
from tests.support import configs
from tests.support.runs import Compose


@pytest.mark.parametrize("kind", [Config, CompareConfig, TuneConfig])
def test_the_defaults_survive_the_way_there_and_back(kind: type[Config]) -> None:
    assert nodes.to_config(nodes.to_node(kind())) == kind()


def test_a_config_survives_the_way_there_and_back() -> None:
    """Own keys, arguments, nested targets, lists, null and enums."""
    config = Config(
        data=configs.data("csv", path="a.csv", target=["a", "b"], drop=None, num_train=7),
        model=configs.of_target(ModelConfig, "mine.net", block={"_target_": "mine.f", "x": [1]}),
        optimizer=configs.optimizer(
            "momentum", momentum=0.5, schedule={"name": "cosine", "final": 0.1}
        ),
    )
    config.training.dtype = Dtype.float64
    back = nodes.to_config(nodes.to_node(config))
    assert back == config
    assert back.data.arguments == {"path": "a.csv", "target": ["a", "b"], "drop": None}
    assert (back.data.num_train, back.data.target) == (7, "l2keras_experiments.data.files.csv")
    assert type(back.optimizer) is schema.OptimizerConfig


def test_an_option_becomes_own_keys_a_target_and_arguments(composed: Compose) -> None:
    config = nodes.to_config(composed("config", "model=cnn", "optimizer=momentum"))
    assert config.model == ModelConfig(
        target="l2keras_experiments.training.models.cnn",
        arguments={"width": 16, "depth": 2, "activation": "relu", "dropout": 0.0},
    )
    assert config.optimizer.learning_rate == 0.02
    assert config.optimizer.arguments == {"momentum": 0.9, "nesterov": False}
    assert (config.data.num_train, config.data.label_noise) == (600, 0.4)
    assert config.data.arguments == {}


def test_a_key_that_the_option_does_not_list_needs_no_plus(composed: Compose) -> None:
    config = nodes.to_config(
        composed("config", "model.heads=3", "optimizer.beta_2=0.9", "optimizer=adam")
    )
    assert config.model.arguments["heads"] == 3
    assert config.optimizer.arguments == {"beta_2": 0.9}


def test_interpolations_are_resolved(composed: Compose) -> None:
    config = nodes.to_config(composed("config", "model.width=${training.batch_size}"))
    assert config.model.arguments["width"] == 32


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.num_train=many", "`data.num_train` must be a whole number or null. Received: "),
        ("data.standardize=3.5", "`data.standardize` must be true or false"),
        ("optimizer.learning_rate=fast", "`optimizer.learning_rate` must be a number"),
        ("optimizer.learning_rate=[1]", "`optimizer.learning_rate` must be a number"),
    ],
)
def test_a_value_of_another_type_is_one_line(
    composed: Compose, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        nodes.to_config(composed("config", override))
    assert f"Received: {override}." in str(error.value)
    assert "\n" not in str(error.value)


def test_a_value_of_another_type_in_a_file_is_one_line(composed: Compose, tmp_path: Path) -> None:
    option = tmp_path / "data" / "mine.yaml"
    option.parent.mkdir()
    option.write_text("_target_: mine.load\nlabel_noise: [much]\n")
    node = composed("config", f"hydra.searchpath=[file://{tmp_path}]", "data=mine")
    with pytest.raises(ConfigError, match=r"`data\.label_noise` must be a number") as error:
        nodes.to_config(node)
    assert "\n" not in str(error.value)


def test_a_group_that_is_no_mapping_is_one_line(composed: Compose) -> None:
    node = composed("config")
    node.model = "${seed}"
    with pytest.raises(ConfigError, match=r"`model` must be an option.*Received: model=0"):
        nodes.to_config(node)


def test_a_config_without_the_schema_is_named() -> None:
    with pytest.raises(ConfigError, match="List train_schema"):
        nodes.to_config(OmegaConf.create({"seed": 0}))


def test_the_target_of_every_option_is_read() -> None:
    """Each option of an open group names one, in this form."""
    groups = schema.open_groups(Config).items()
    for group in [name for name, kind in groups if issubclass(kind, schema.TargetGroup)]:
        for option in (paths.CONFIGS / group).glob("*.yaml"):
            assert "." in nodes.target_of(option), option


def test_flat_holds_the_arguments_and_varying_shows_them() -> None:
    one = Config(model=configs.model("mlp", width=8))
    other = Config(model=configs.model("mlp", width=16), seed=1)
    assert schema.flat(one)["model.width"] == 8
    assert schema.flat(one)["model._target_"] == "l2keras_experiments.training.models.mlp"
    assert schema.varying([one, other, one]) == {"seed": [0, 1], "model.width": [8, 16]}
    assert schema.varying([one, Config(model=configs.model("mlp"))]) == {"model.width": [8, None]}


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (configs.data("digits"), "digits"),
        (configs.data("csv", path="folder/wine.csv", target="y"), "wine"),
        (configs.model("cnn"), "cnn"),
        (configs.optimizer("adamw"), "adamw"),
        (configs.of_target(ModelConfig, "mine.Net"), "mine.Net"),
        (configs.of_target(DataConfig, "mine.load"), "mine.load"),
    ],
)
def test_names_for_people(group: schema.TargetGroup, name: str) -> None:
    """Without the module where it is one of ours; a file's without its ending."""
    assert group.name == name


def test_sgd_with_momentum_is_called_momentum() -> None:
    for name, momentum in (("sgd", 0.0), ("momentum", 0.9)):
        config = Config(optimizer=configs.optimizer("sgd", momentum=momentum))
        assert schema.optimizer_name(config) == name
