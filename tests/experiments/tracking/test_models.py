"""Models and datasets as MLflow shows and serves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras_experiments.config.schema import DataConfig
from l2keras_experiments.data.datasets import Dataset, load_data
from l2keras_experiments.data.description import describe
from l2keras_experiments.tracking import upload
from l2keras_experiments.tracking.store import Store
from l2keras_experiments.training import saving
from tests.support.runs import logged_model, runs_of

X = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")


def small(units: int = 2) -> Any:
    """A model with a regularizer that has to be imported before it is loaded."""
    layer = keras.layers.Dense(units, kernel_regularizer=l2keras.HalfL2(0.1))
    return keras.Sequential([keras.Input((3,)), layer])


def test_a_run_has_one_model_however_often_it_is_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that fails half way, and a resumed launch, write the same model once more."""
    from l2keras_experiments.tracking import outbox

    monkeypatch.setattr(outbox, "FIRST_PAUSE", 0.01)
    finalize, failures = store.client.finalize_logged_model, [ConnectionError(), ConnectionError()]

    def failing(*given: Any) -> Any:
        if failures:
            raise failures.pop()
        return finalize(*given)

    monkeypatch.setattr(store.client, "finalize_logged_model", failing)
    with store.run("one") as run:
        run.log_model(small(), X)
    last = small()
    with store.run("one", resume=run.id) as run:
        run.log_model(last, X)
    folder = logged_model(store, runs_of(store)[0])
    kept = keras.models.load_model(folder / "data" / "model.keras")
    np.testing.assert_array_equal(kept.get_weights()[0], last.get_weights()[0])


def test_an_unsent_model_and_its_data_are_uploaded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait in files, and are in the store after the upload, once."""

    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("the server is away")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_write", away)
        run = store._open("one", {}, None)
        run.log_inputs(describe(digits(), DataConfig(target=DIGITS)))
        run.log_model(small(), X)
        run.end("FINISHED", patience=0.0)
    assert run.spill.exists()
    upload.upload(store, run.spill)
    [found] = runs_of(store)
    assert found.info.status == "FINISHED"
    assert len(found.inputs.dataset_inputs) == 3
    assert (logged_model(store, found) / "MLmodel").is_file()
    assert not [file for file in run.spill.parent.rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (np.zeros((4, 7), "int32"), [(None, "int32", [-1, 7])]),
        ({"a": X, "b": X[:, :1]}, [("a", "float32", [-1, 3]), ("b", "float32", [-1, 1])]),
        ([X, X], None),  # nothing gives them names
    ],
)
def test_the_signature_is_that_of_the_data(x: Any, expected: Any) -> None:
    """One array has no name; a dict's keys are its names."""
    assert saving.input_specs(small(), x) == expected


def test_a_list_of_inputs_is_named_by_the_model() -> None:
    """MLflow serves several inputs by name only."""
    inputs = [keras.Input((3,), name="left"), keras.Input((3,), name="right")]
    model = keras.Model(inputs, keras.layers.Add()(inputs))
    assert saving.input_specs(model, [X, X]) == [
        ("left", "float32", [-1, 3]), ("right", "float32", [-1, 3])
    ]  # fmt: skip
    assert saving.output_specs(model) == [(None, "float32", [-1, 3])]
    assert saving.own_modules(model) == []


class Own(keras.layers.Dense):
    """A layer that is not Keras' own."""


def test_the_modules_of_own_layers_go_with_the_model() -> None:
    """Whoever loads the model imports them first."""
    assert saving.own_modules(keras.Sequential([keras.Input((3,)), Own(2)])) == [__name__]


DIGITS = "l2keras_experiments.data.sources.digits"


def digits(**changes: Any) -> Dataset:
    return load_data(DataConfig(target=DIGITS, **changes), 0, "float32")


def test_a_dataset_is_known_by_its_content() -> None:
    """Each part has a digest of its own; what changes the examples changes it."""
    first, again, fewer = digits(), digits(), digits(num_train=100)
    assert first.digests == again.digests
    assert len(set(first.digests.values())) == 3
    assert first.digests["train"] != fewer.digests["train"]
    assert first.digests["test"] == fewer.digests["test"]
    noisy = digits(label_noise=0.1)
    assert first.digests["train"] != noisy.digests["train"]


def test_what_a_dataset_is_described_by(tmp_path: Path) -> None:
    """Name, source, shapes and numbers of each part; a file is its own source."""
    described = describe(digits(num_train=100), DataConfig(target=DIGITS))
    assert [one["context"] for one in described] == ["train", "validation", "test"]
    assert json.loads(described[0]["source"]) == {"tags": {"mlflow.source.name": DIGITS}}
    profile = json.loads(described[0]["profile"])
    assert profile == {
        "num_rows": 100, "num_elements": 6400, "task": "classification", "num_outputs": 10
    }  # fmt: skip
    [spec] = json.loads(json.loads(described[0]["schema"])["mlflow_tensorspec"]["features"])
    assert spec["tensor-spec"] == {"dtype": "float32", "shape": [-1, 8, 8, 1]}
    path = tmp_path / "own.npz"
    np.savez(path, x=np.arange(60.0).reshape(30, 2), y=np.arange(30) % 2)
    config = DataConfig(target="l2keras_experiments.data.files.npz", arguments={"path": str(path)})
    [train, *_] = describe(load_data(config, 0, "float32"), config)
    assert (train["name"], json.loads(train["source"])) == ("own", {"uri": str(path)})


def test_the_data_of_a_run_are_its_inputs(store: Store) -> None:
    """MLflow's column of datasets shows each part, once however often it is written."""
    described = describe(digits(), DataConfig(target=DIGITS))
    with store.run("one") as run:
        run.log_inputs(described)
        run.flush()
        run.log_inputs(described)
    [found] = runs_of(store)
    shown = {
        (one.tags[0].value, one.dataset.name, one.dataset.digest)
        for one in found.inputs.dataset_inputs
    }
    assert len(found.inputs.dataset_inputs) == 3
    assert shown == {(one["context"], "digits", one["digest"]) for one in described}
