"""What `sweep` evaluates: the losses and metrics of `fit`, in its batches or in wider ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._sweep import evaluation
from tests.support import factorial
from tests.support.models import BACKEND, mse
from tests.support.sweeps import BATCH, SIZE, SMALL, alone, data, linear, swept


def test_the_loss_of_an_evaluation_is_that_of_its_batches() -> None:
    """Where it depends on how many examples a batch has, these are as in `fit`."""
    result = swept(
        loss=keras.losses.MeanSquaredError("sum"), validation_data=data(), lam=(0.0, 0.3)
    )
    loss = keras.losses.MeanSquaredError("sum")
    optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
    _, history = alone(linear, data(), optimizer, lam=0.3, loss=loss, validation_data=data())
    for name in ("loss", "val_loss"):
        assert result.history[name][1] == pytest.approx(history[name], rel=1e-4, abs=0)


class Sums(keras.layers.Layer):
    """Adds a loss that is a sum over the batch."""

    def call(self, inputs: Any) -> Any:
        self.add_loss(1e-3 * keras.ops.sum(keras.ops.square(inputs)))
        return inputs


def rmse(y_true: Any, y_pred: Any) -> Any:
    """Of a batch, which Keras takes the mean of over the batches."""
    return keras.ops.sqrt(keras.ops.mean(keras.ops.square(y_true - y_pred)))


@pytest.mark.parametrize("metrics", [None, [rmse]])
def test_an_evaluation_has_the_batches_of_fit_where_they_matter(metrics: Any) -> None:
    """To a loss that a layer adds, and to a metric that is a function."""

    def build() -> Any:
        return keras.Sequential([linear(), *([] if metrics else [Sums()])])

    options: dict[str, Any] = {"loss": "mse", "metrics": metrics, "epochs": SIZE.epochs}
    options["validation_data"] = data()
    result = l2keras.sweep(
        build, (0.0, 0.3), *data(), optimizer=keras.optimizers.SGD(0.1), batch_size=BATCH,
        verbose=0, **options,
    )  # fmt: skip
    _, history = alone(build, data(), keras.optimizers.SGD(0.1), lam=0.3, **options)
    for name, values in history.items():
        assert result.history[name][1] == pytest.approx(values, rel=1e-5, abs=0)


@pytest.mark.parametrize(
    ("loss", "metrics", "wider"),
    [
        ("mse", ["accuracy", keras.metrics.AUC()], True),
        ({"a": keras.losses.MeanSquaredError(), "b": "mae"}, None, True),
        (keras.losses.mean_squared_error, None, True),
        (keras.losses.MeanSquaredError("sum"), None, False),
        (keras.losses.SparseCategoricalCrossentropy(ignore_class=0), None, False),
        (mse, None, False),
        ("dice", None, False),
        (keras.losses.Tversky(), None, False),
        ("mse", [rmse], False),
        ("mse", [keras.metrics.MeanMetricWrapper(rmse)], False),
    ],
)
def test_which_losses_and_metrics_are_means_over_examples(
    loss: Any, metrics: Any, wider: bool
) -> None:
    """Keras' own that average, and that count; no function of the user's."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert evaluation.is_by_example(model, loss, metrics) is wider


def test_which_layers_map_each_example() -> None:
    """Keras' own, without masks, operations outside of layers, and losses that layers add."""
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(2)(inputs)
    mixed = keras.Model(inputs, hidden - keras.ops.mean(hidden, axis=0, keepdims=True))
    masking = keras.Sequential([keras.Input((3, 1)), keras.layers.Masking()])
    function = keras.Sequential([inputs, keras.layers.Lambda(lambda x: x)])
    activation = keras.Sequential([inputs, keras.layers.Dense(2, activation=lambda x: x)])
    softmax = keras.Sequential([inputs, keras.layers.Softmax(axis=0)])
    plain = keras.Model(inputs, keras.layers.Add()([hidden, hidden]))
    assert evaluation.is_by_example(plain, "mse", None)
    for model in (mixed, masking, function, activation, softmax):
        assert not evaluation.is_by_example(model, "mse", None)


def test_the_loss_of_masked_steps_is_that_of_its_batches() -> None:
    """A mean over the steps of a batch that are not masked is no mean over its examples."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(11, 5, 3)).astype("float32")
    for i, length in enumerate(generator.integers(1, 6, 11)):
        x[i, length:] = 0
    y = generator.normal(size=(11, 5, 2)).astype("float32")

    def build() -> Any:
        # A loop takes longest to trace.
        recurrent = keras.layers.SimpleRNN(2, return_sequences=True, unroll=SIZE is SMALL)
        parts = [keras.layers.Masking(), recurrent]
        return keras.Sequential([keras.Input((5, 3)), *parts])

    options: dict[str, Any] = {"loss": "mse", "epochs": SIZE.epochs, "validation_data": (x, y)}
    train = (x[:BATCH], y[:BATCH]) if SIZE is SMALL else (x, y)
    result = l2keras.sweep(
        build, (0.0, 0.3), *train, optimizer=keras.optimizers.SGD(0.1), batch_size=BATCH,
        verbose=0, **options,
    )  # fmt: skip
    _, history = alone(build, train, keras.optimizers.SGD(0.1), lam=0.3, **options)
    assert result.history["val_loss"][1] == pytest.approx(history["val_loss"], rel=1e-5, abs=0)


METRICS: dict[str, tuple[Callable[[], Any], bool]] = {
    "top k": (lambda: keras.metrics.TopKCategoricalAccuracy(2, name="seen"), True),
    "sparse top k": (lambda: keras.metrics.SparseTopKCategoricalAccuracy(2, name="seen"), False),
    "IoU": (lambda: keras.metrics.MeanIoU(4, sparse_y_pred=False, name="seen"), False),
    "AUC": (lambda: keras.metrics.AUC(num_thresholds=20, name="seen"), True),
}


@pytest.mark.parametrize("name", factorial.sample(METRICS, 2))
def test_metrics_that_count_are_those_of_fit(name: str) -> None:
    """What they count is each member's own."""
    metric, one_hot = METRICS[name]
    labels = np.arange(11) % 4
    y = np.eye(4, dtype="float32")[labels] if one_hot else labels
    kind = keras.losses.CategoricalCrossentropy
    if not one_hot:
        kind = keras.losses.SparseCategoricalCrossentropy
    x, _ = data()

    def build() -> Any:
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "softmax")])

    def options() -> dict[str, Any]:
        return {"loss": kind(), "metrics": [metric()], "epochs": SIZE.epochs}

    def swept() -> Any:
        return l2keras.sweep(
            build, (0.0, 0.6), x, y, optimizer=keras.optimizers.SGD(0.5), batch_size=BATCH,
            verbose=0, **options(),
        )  # fmt: skip

    if (BACKEND, name) == ("torch", "IoU"):  # whose matrix has no form under torch.func.vmap
        with pytest.raises(ValueError, match=r"the metric seen \(MeanIoU\)"):
            swept()
        return
    result = swept()
    _, history = alone(build, (x, y), keras.optimizers.SGD(0.5), lam=0.6, **options())
    assert result.history["seen"][1] == pytest.approx(history["seen"], rel=1e-5, abs=1e-6)
