"""Data that come in batches: a `tf.data.Dataset` or a `PyDataset` for each part."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2keras_experiments.config.schema import ConfigError, DataConfig, TrainingConfig
from l2keras_experiments.data import batches
from l2keras_experiments.data.datasets import load_data
from l2keras_experiments.data.description import describe
from l2keras_experiments.data.streams import StreamDataset, load_any
from tests.support import configs

_returned: Any = None


def returned() -> Any:
    return _returned


class Batches(keras.utils.PyDataset):
    """Ten batches, or `num_batches`, which are all `batch`."""

    def __init__(self, batch: Any, num_batches: int | None = 10) -> None:
        super().__init__()
        self._batch, self._num_batches = batch, num_batches

    @property
    def num_batches(self) -> int | None:
        return self._num_batches

    def __getitem__(self, index: int) -> Any:
        return self._batch


def config_of(found: Any, **keys: Any) -> DataConfig:
    global _returned
    _returned = found
    return configs.of_target(DataConfig, f"{__name__}.returned", **keys)


def load(*found: Any, **keys: Any) -> StreamDataset:
    """The dataset of a target that returns `found`."""
    data = load_any(config_of(found, **keys), 0, "float32")
    assert isinstance(data, StreamDataset)
    return data


def examples(count: int = 20) -> Any:
    """Single examples of shape (3,), classes 0 to 2."""
    x = np.arange(3.0 * count, dtype="float32").reshape(count, 3)
    return tf.data.Dataset.from_tensor_slices((x, np.arange(count) % 3))


def classes(count: int = 20, batch_size: int = 4) -> Any:
    """The same in batches."""
    return examples(count).batch(batch_size)


def targets(y: Any) -> Batches:
    """Batches of these targets."""
    return Batches((np.zeros((len(y), 2)), np.asarray(y)))


def test_what_is_known_of_batches() -> None:
    """18 examples in batches of 4 are 5 steps; the last batch, of 2, is trained on, too."""
    data = load(classes(18), classes(8), classes(4), num_outputs=3)
    assert data.num_batches == {"train": 5, "validation": 2, "test": 1}
    assert (data.task, data.num_outputs, data.input_shape) == ("classification", 3, (3,))
    assert batches.sizes(data, TrainingConfig(batch_size=4)) == (5, 4)
    assert not hasattr(data, "vocabulary_size")


def test_parts_have_names_or_positions() -> None:
    parts = {"train": classes(), "validation": classes(8)}
    for found in (parts, tuple(parts.values())):
        data = load_any(config_of(found, num_outputs=3), 0, "float32")
        assert isinstance(data, StreamDataset)
        assert data.streams == parts


def test_a_py_dataset_has_the_structure_of_its_batches() -> None:
    """Nested inputs have a structure of shapes; a third element weighs the examples."""
    x = {"image": np.zeros((5, 8, 8, 1)), "age": np.zeros((5, 1))}
    stream = Batches((x, np.zeros((5, 2)) + 0.5, np.ones(5)))
    data = load(stream, stream)
    assert data.input_shape == {"image": (8, 8, 1), "age": (1,)}
    assert (data.task, data.num_outputs, data.has_weights) == ("regression", 2, True)
    assert (data.batch_size, data.num_batches["train"]) == (5, 10)


@pytest.mark.parametrize(
    ("y", "keys", "task", "num_outputs"),
    [
        ([0, 2, 1], {"num_outputs": 3}, "classification", 3),
        ([[0], [2]], {"num_outputs": 5}, "classification", 5),
        ([0, 2], {"task": "regression"}, "regression", 1),
        ([0.0, 1.5], {}, "regression", 1),
        ([0.0, 1.0], {"task": "regression"}, "regression", 1),
        ([[0.0, 0.5]], {}, "regression", 2),
        ([[0.0, 1.0, 1.0]], {"task": "multilabel"}, "multilabel", 3),
    ],
)
def test_the_task_is_that_of_the_targets(
    y: Any, keys: dict[str, Any], task: str, num_outputs: int
) -> None:
    data = load(targets(y), targets(y), **keys)
    assert (data.task, data.num_outputs) == (task, num_outputs)


@pytest.mark.parametrize(
    ("found", "keys", "message"),
    [
        ((classes(),), {}, "must come with a validation part"),
        (
            (classes(), (np.zeros((4, 3)), np.zeros(4))),
            {},
            r"for each part.*Received: .*'validation': 'tuple'",
        ),
        ((classes(), classes(), classes(), classes()), {}, "Received: 4 parts"),
        ((classes().repeat(), classes()), {}, r"Received: endless .*\.take\("),
        (
            (classes().filter(lambda x, y: True), classes()),
            {},
            r"Received: unknown in the part train .*assert_cardinality\(",
        ),
        ((Batches((0, 0), None), classes()), {}, "Return the number of batches from num_batches"),
        ((classes(), classes().take(0)), {}, "Received: none in the part validation"),
        ((examples(), classes()), {}, r"same number.*Make batches"),
        ((Batches(np.zeros((4, 3))), classes()), {}, r"\(x, y, sample_weight\).*ndarray"),
        ((targets(["a", "b"]), classes()), {}, "y one array of numbers"),
        ((classes(), targets([0, 1])), {}, "one shape in all parts"),
        ((targets([0, 1]), targets([0, 1])), {}, r"Set data\.num_outputs=\.\.\."),
        ((targets([0, 3]), targets([0])), {"num_outputs": 3}, "Received: 0 to 3 from"),
        ((targets([[0.0, 1.0]]),) * 2, {}, r"`data\.task` must be set"),
        ((targets([0.0, 1.0]),) * 2, {}, r"`data\.task` must be set"),
        ((targets([0, 0]),) * 2, {"num_outputs": 1}, "at least two classes"),
        (
            (classes(), classes()),
            {"validation_fraction": 0.2},
            r"needs arrays.*=null, or return",
        ),
        ((classes(), classes()), {"split_seed": 1}, r"`data\.split_seed` needs arrays"),
        ((targets([0.5]),) * 2, {"task": "classification"}, "number of a class"),
        ((targets([0.5]),) * 2, {"num_outputs": 2}, r"`data\.num_outputs` must be 1"),
        ((classes(), classes()), {"num_train": 5}, r"`data\.num_train` needs arrays"),
        ((classes(), classes()), {"label_noise": 0.1}, r"`data\.label_noise` needs arrays"),
        ((classes(), classes()), {"standardize": True}, r"data\.standardize=false, or return"),
    ],
)
def test_mistakes_are_answered_in_one_line(found: Any, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        load(*found, **keys)
    assert "\n" not in str(raised.value)
    assert "Received: " in str(raised.value)


def test_a_set_cardinality_is_believed() -> None:
    """The remedy of the message works."""
    unknown = classes(20).filter(lambda x, y: True)
    known = unknown.apply(tf.data.experimental.assert_cardinality(5))
    assert load(known, classes(), num_outputs=3).num_batches["train"] == 5


def test_batches_must_be_of_the_configured_size() -> None:
    data = load(classes(20, 5), classes(), num_outputs=3)
    with pytest.raises(ConfigError, match=r"Received: training\.batch_size=4, .*batches of 5"):
        batches.sizes(data, TrainingConfig(batch_size=4))


def test_weights_of_examples_exclude_weights_of_classes() -> None:
    stream = Batches((np.zeros((5, 2)), np.zeros(5, int), np.ones(5)))
    data = load(stream, stream, num_outputs=2)
    with pytest.raises(ConfigError, match="needs batches without sample weights"):
        data.check_training(TrainingConfig(batch_size=5, class_weight={0: 2.0, 1: 1.0}))


def test_what_needs_arrays_says_so() -> None:
    with pytest.raises(ConfigError, match="Runs that share their batches need arrays"):
        load_data(config_of((classes(), classes())), 0, "float32")


def test_arrays_have_as_many_classes_as_they_show() -> None:
    x, y = np.zeros((6, 1)), np.arange(6) % 3
    assert load_any(config_of(((x, y), (x, y)), num_outputs=3), 0, "float32").num_outputs == 3
    with pytest.raises(ConfigError, match=r"`data\.num_outputs` must be 3"):
        load_data(config_of(((x, y), (x, y)), num_outputs=4), 0, "float32")


def test_the_description_says_what_it_knows() -> None:
    """Shapes and the number of batches; the digest follows these, the source and the seed."""
    config = config_of((classes(), classes(8)), num_outputs=3)
    data = load_any(config, 0, "float32")
    train, validation = describe(data, config)
    assert (train["context"], train["name"]) == ("train", f"{__name__}.returned")
    assert json.loads(train["profile"]) == {
        "num_batches": 5, "batch_size": 4, "task": "classification", "num_outputs": 3
    }  # fmt: skip
    [spec] = json.loads(json.loads(train["schema"])["mlflow_tensorspec"]["features"])
    assert spec["tensor-spec"] == {"dtype": "float32", "shape": [-1, 3]}
    digests = {train["digest"], validation["digest"]}
    digests |= {load_any(config, 1, "float32").digests["train"]}
    digests |= {load(classes(24), classes(8), num_outputs=3).digests["train"]}
    assert len(digests) == 4
    assert load(classes(), classes(8), num_outputs=3).digests == data.digests
