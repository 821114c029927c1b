"""A run on batches of a `tf.data.Dataset` or a `PyDataset` is the run on the same arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2keras_experiments.config.schema import Config, DataConfig, Dtype
from l2keras_experiments.data import batches
from l2keras_experiments.data.datasets import Dataset, load_data
from l2keras_experiments.data.streams import load_any
from l2keras_experiments.runtime import device
from l2keras_experiments.training.trial import TrialResult, run_trial
from tests.support import configs

pytestmark = pytest.mark.usefixtures("eager_steps")

SIZE = 16
_returned: Any = None


def returned() -> Any:
    return _returned


class Sliced(keras.utils.PyDataset):
    """Batches of arrays, in order."""

    def __init__(self, *arrays: Any) -> None:
        super().__init__()
        self._arrays = arrays

    def __len__(self) -> int:
        return len(self._arrays[0]) // SIZE

    def __getitem__(self, index: int) -> Any:
        return tuple(array[index * SIZE : (index + 1) * SIZE] for array in self._arrays)


def as_tf_data(*arrays: Any) -> Any:
    return tf.data.Dataset.from_tensor_slices(arrays).batch(SIZE)


def config_of(**training: Any) -> Config:
    config = Config()
    config.data.num_train = 3 * SIZE
    config.model = configs.model("mlp", width=8)
    config.optimizer.schedule = "cosine"
    config.regularization.name, config.regularization.lam = "decoupled", 0.1
    config.training.epochs, config.training.batch_size = 2, SIZE
    config.training.dtype = Dtype.float64
    for key, value in training.items():
        setattr(config.training, key, value)
    return config


def train_on(found: Any, config: Config, **kept: Any) -> TrialResult:
    """Trains on what a target returns."""
    global _returned
    _returned = found
    config.data = configs.of_target(DataConfig, f"{__name__}.returned", num_outputs=10)
    return run_trial(config, load_any(config.data, 0, "float64"), **kept)


@pytest.fixture(scope="module")
def arrays() -> Dataset:
    """Digits as a run on arrays has them, few for validation and none to test by."""
    config = config_of()
    device.set_up(config)
    data = load_data(config.data, 0, "float64")
    few = slice(2 * SIZE)
    return replace(data, x_val=data.x_val[few], y_val=data.y_val[few], x_test=None, y_test=None)


def parts(data: Dataset) -> list[tuple[Any, Any]]:
    return list(data.parts.values())


@pytest.mark.parametrize("stream", [as_tf_data, Sliced])
def test_equal_batches_give_equal_weights(
    stream: Callable[..., Any], arrays: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit in float64 on a CPU, over two epochs of a cosine schedule."""
    config = config_of()
    in_order = np.arange(3 * SIZE, dtype=np.int32).reshape(3, SIZE)
    monkeypatch.setattr(batches, "epoch_order", lambda *_, **__: in_order)
    expected = run_trial(config, arrays)
    streams = [stream(*pair) for pair in parts(arrays)]
    result = train_on([*streams, streams[1]], config)
    for weight, other in zip(result.model.get_weights(), expected.model.get_weights(), strict=True):
        assert np.array_equal(weight, other)
    assert result.steps_per_epoch == 3
    for key in ("learning_rate", "data_loss"):
        assert result.history[key] == expected.history[key]
    for key in ("accuracy", "data_loss"):
        assert result.history[f"val_{key}"] == pytest.approx(expected.history[f"val_{key}"])
        assert result.test[f"test_{key}"] == result.history[f"val_{key}"][-1]


def test_a_schedule_is_as_long_as_the_batches(arrays: Dataset) -> None:
    """3 whole batches and one of 2 are 4 steps; cosine after 7 of 8 is (1 + cos(7 pi/8)) / 2."""
    (x, y), validation = parts(arrays)
    x, y = np.concatenate([x, x[:2]]), np.concatenate([y, y[:2]])
    config = config_of()
    result = train_on((as_tf_data(x, y), as_tf_data(*validation)), config)
    assert result.steps_per_epoch == 4
    rate = config.optimizer.learning_rate * (1 + np.cos(np.pi * 7 / 8)) / 2
    assert result.history["learning_rate"][-1] == pytest.approx(rate, rel=1e-5)
    assert result.test == {}


def test_weights_of_examples_are_those_of_the_loss(arrays: Dataset) -> None:
    """Examples of weight 0 move nothing: only decay, by (1 - 0.2 * 0.1) in each of three steps."""
    (x, y), validation = parts(arrays)
    config = config_of(epochs=1)
    config.optimizer.schedule, config.optimizer.learning_rate = "constant", 0.2
    streams = Sliced(x, y, np.zeros(len(y))), Sliced(*validation)
    before, after = np.asarray(train_on(streams, config, keep_trajectory=True).trajectory)
    kernel = slice(0, 64 * 8)
    np.testing.assert_allclose(after[kernel], before[kernel] * 0.98**3, rtol=1e-6)
    assert before[kernel].any()


def test_a_run_on_batches_leaves_no_checkpoint(arrays: Dataset, tmp_path: Path) -> None:
    """Nothing could go on from one to the same weights; early stopping has the best in memory."""
    config = config_of()
    config.training.early_stopping.patience = 1
    streams = [Sliced(*pair) for pair in parts(arrays)]
    train_on(streams, config, checkpoint_path=tmp_path / "run.state")
    assert list(tmp_path.iterdir()) == []
