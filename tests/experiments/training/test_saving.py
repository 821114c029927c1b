"""What is said of a model's file: its inputs, its outputs, and what cannot be saved."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.training import saving


@pytest.fixture
def model() -> keras.Model:
    layers = [keras.layers.Dense(3, "relu"), keras.layers.BatchNormalization()]
    found = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(1)])
    found.compile("adam", "mse")
    return found


class Own(keras.Model):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(units)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)


class WithConfig(Own):
    def get_config(self) -> dict[str, Any]:
        return {"units": self.dense.units}


def test_a_model_without_a_config_is_named_before_it_trains(model: keras.Model) -> None:
    saving.check(model, "mine.build")
    saving.check(WithConfig(3), "mine.build")
    message = r"Received: mine\.build \(Object Own .*\)\. .* set tracking\.log_model=false"
    with pytest.raises(ConfigError, match=message) as error:
        saving.check(Own(3), "mine.build")
    assert "\n" not in str(error.value)
