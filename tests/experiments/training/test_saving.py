"""The file of a model is Keras' own, and quicker."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.saving import saving_lib

from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.training import saving


@pytest.fixture
def model() -> keras.Model:
    layers = [keras.layers.Dense(3, "relu"), keras.layers.BatchNormalization()]
    found = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(1)])
    found.compile("adam", "mse")
    found.optimizer.build(found.trainable_variables)
    return found


def test_the_file_is_the_one_that_keras_writes(
    model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same members in the archive, the same config, and the model loads."""
    plain = getattr(saving_lib.get_attr_skipset, "__wrapped__", saving_lib.get_attr_skipset)
    monkeypatch.setattr(saving_lib, "get_attr_skipset", plain)
    model.save(tmp_path / "keras.keras")
    saving.save(model, tmp_path / "ours.keras")
    keras_file, ours = (zipfile.ZipFile(tmp_path / f"{n}.keras") for n in ("keras", "ours"))
    assert ours.namelist() == keras_file.namelist()
    assert ours.read("config.json") == keras_file.read("config.json")
    loaded = keras.models.load_model(tmp_path / "ours.keras")
    for before, after in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_what_is_left_out_is_looked_up_once(
    model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each kind of object, however many there are and however often they are saved."""
    plain = getattr(saving_lib.get_attr_skipset, "__wrapped__", saving_lib.get_attr_skipset)
    asked: list[str] = []

    def names(kind: str) -> set[str]:
        asked.append(kind)
        return set(plain(kind))

    monkeypatch.setattr(saving_lib, "get_attr_skipset", names)
    for number in range(2):
        saving.save(model, tmp_path / f"{number}.keras")
        keras.backend.clear_session()
    assert "Layer" in asked
    assert len(asked) == len(set(asked))


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
