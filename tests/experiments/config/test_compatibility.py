"""Models that cannot be built are answered before a backend is imported."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import pytest

from l2keras_experiments.config import compatibility, targets
from l2keras_experiments.config.compatibility import check_inputs, check_model
from l2keras_experiments.config.schema import ConfigError, ModelConfig
from tests.support import configs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "`model.width` must be positive. Received: model.width=0"),
        ({"depth": -2}, "`model.depth` must be positive. Received: model.depth=-2"),
        ({"dropout": 1.5}, r"`model.dropout` must be in \[0, 1\). Received: model.dropout=1.5"),
        ({"dropout": float("nan")}, "Received: model.dropout=nan"),
        ({"activation": "rleu"}, "one of linear, relu.*Received: model.activation=rleu"),
        ({"width": "wide"}, "`model.width` must be a whole number. Received: model.width=wide"),
        ({"dropuot": 0.1}, r"Received: model.dropuot=0.1. Did you mean dropout\?"),
        ({"heads": 2}, "Received: model.heads=2. Valid: activation, depth, dropout, width"),
    ],
)
def test_impossible_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_model(configs.model("mlp", **arguments), "image", "digits")


@pytest.mark.parametrize("key", ["input_shape", "num_outputs"])
def test_what_the_data_give_is_not_configured(key: str) -> None:
    """The value would be replaced."""
    with pytest.raises(
        ConfigError, match=f"`model.{key}` must be left out, .*the data.*model.{key}=3"
    ):
        check_model(configs.model("mlp", **{key: 3}), "image", "digits")


def test_a_model_of_ones_own_is_asked_for_its_arguments_only() -> None:
    """Its kind of inputs is not known; what it is given need not be set."""
    mine = configs.of_target(ModelConfig, f"{__name__}.own", width=0)
    check_model(mine, "tokens", "imdb")
    with pytest.raises(ConfigError, match=r"model\.witdh=1\. Did you mean width\?"):
        check_model(configs.of_target(ModelConfig, mine.target, witdh=1), None, "mine")


def own(input_shape: Any, num_outputs: int, width: int = 1) -> None: ...


@pytest.mark.parametrize(
    ("name", "kind", "fitting"),
    [
        ("cnn", "features", "linear, mlp"),
        ("resnet", "tokens", "transformer, gru"),
        ("mlp", "tokens", "transformer, gru"),
        ("transformer", "image", "linear, mlp, cnn, resnet"),
        ("gru", "features", "linear, mlp"),
    ],
)
def test_a_model_that_does_not_take_the_data(name: str, kind: str, fitting: str) -> None:
    message = f"takes {kind}, as toy has. Received: model={name}. Choose among: {fitting}"
    with pytest.raises(ConfigError, match=message):
        check_model(configs.model(name), kind, "toy")


@pytest.mark.parametrize(
    ("model", "shape", "vocabulary", "kind"),
    [
        ("mlp", (8, 8, 1), 0, "image"),
        ("mlp", (8, 8, 1), 256, "image"),  # whole numbers, but no sequence
        ("linear", (6,), 0, "features"),
        ("mlp", (6,), 11, "features"),  # a count, not a token, to a model of features
        ("gru", (6,), 11, "tokens"),
    ],
)
def test_the_kind_of_inputs(model: str, shape: tuple[int, ...], vocabulary: int, kind: str) -> None:
    assert check_inputs(model, shape, vocabulary) == kind


def test_inputs_that_a_built_in_model_cannot_take() -> None:
    for shape in ({"a": (2,), "b": (3,)}, [(2,), (3,)]):
        with pytest.raises(ConfigError, match="takes one array of inputs"):
            check_inputs("mlp", shape, 0)
    with pytest.raises(ConfigError, match=r"here of the shape \(5,\)"):
        check_inputs("cnn", (5,), 0)


def test_what_is_checked_is_what_there_is() -> None:
    """The tables that answer before Keras is imported name the models and activations."""
    from l2keras_experiments.training import models

    public = {
        name
        for name, found in vars(models).items()
        if inspect.isfunction(found) and found.__module__ == models.__name__
        and not name.startswith("_") and name != "build_model"
    }  # fmt: skip
    assert {name for names in compatibility.FITTING.values() for name in names} == public
    assert all(callable(getattr(keras.activations, name)) for name in compatibility.ACTIVATIONS)
    for name in public:
        given = targets.accepted(f"{compatibility.MODULE}.{name}")
        assert {"input_shape", "num_outputs"} <= set(given)
