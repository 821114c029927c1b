"""Lazy decay of embeddings: every value that is read, and every value at the end, is dense's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import HalfL2, WeightDecay
from tests.support import factorial
from tests.support.models import BACKEND, mse, relative_distance, to_numpy

ROWS, WIDTH, LENGTH, BATCH_SIZE, BATCHES = 50, 3, 4, 2, 8
ETA, LAM = 0.125, 1.0

sparse = pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow alone has sparse gradients")
pytestmark = pytest.mark.usefixtures("float64")


def embedded(
    optimizer: Any, *, shared: bool = False, compiling: Any = None, **embedding: Any
) -> Any:
    """An embedding of 50 rows, read once or twice, its mean to a linear layer."""
    table = keras.layers.Embedding(ROWS, WIDTH, name="table", **embedding)
    inputs = keras.Input((LENGTH,), dtype="int32")
    rows = table(inputs)
    if shared:
        rows = keras.layers.concatenate([rows, table((inputs + 7) % ROWS)])
    mean = keras.layers.GlobalAveragePooling1D()(rows)
    model = keras.Model(inputs, keras.layers.Dense(1, name="head")(mean))
    generator = np.random.default_rng(5)
    for variable in model.trainable_variables:
        variable.assign(generator.normal(size=variable.shape))
    model.compile(optimizer, mse, **(compiling or {}))
    return model


def data() -> tuple[Any, Any]:
    """Row 3 in every sample, twice in some; most rows in few batches, some in none."""
    generator = np.random.default_rng(6)
    ids = generator.integers(0, ROWS // 2, (BATCHES * BATCH_SIZE, LENGTH))
    ids[:, 0] = 3
    ids[::3, 1] = 3
    return ids.astype("int32"), generator.normal(size=(len(ids), 1))


def batches() -> Any:
    """The same as a dataset without autotune, whose iterators take long to destroy."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensor_slices(data()).batch(BATCH_SIZE).with_options(options)


def train(model: Any, *callbacks: Any, epochs: int = 2, **kwargs: Any) -> dict[str, list[float]]:
    history = model.fit(
        batches(), epochs=epochs, verbose=0, shuffle=False, callbacks=list(callbacks), **kwargs
    )
    logs: dict[str, list[float]] = history.history
    return logs


SCHEDULE = keras.optimizers.schedules.PiecewiseConstantDecay([3, 9], [ETA, ETA / 2, ETA / 4])
OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(ETA),
    "SGD, schedule": lambda: keras.optimizers.SGD(SCHEDULE),
    "Adagrad": lambda: keras.optimizers.Adagrad(ETA),
    "RMSprop": lambda: keras.optimizers.RMSprop(ETA / 4),
}


@sparse
@pytest.mark.parametrize(
    ("name", "shared"),
    factorial.sample(
        [
            *[pytest.param(name, False, id=f"{name}-once") for name in OPTIMIZERS],
            *[pytest.param(name, True, id=f"{name}-twice") for name in reversed(OPTIMIZERS)],
        ],
        4,
    ),
)
def test_it_equals_the_dense_form(name: str, shared: bool, quick: dict[str, Any]) -> None:
    """All weights and the losses of both epochs, validation included, equal dense decay's."""
    results = []
    for decay, compiling in (
        ([WeightDecay(LAM, lazy=True)], {}),
        ([WeightDecay(LAM)], quick),
        ([], quick),
    ):
        model = embedded(OPTIMIZERS[name](), shared=shared, compiling=compiling)
        logs = train(model, *decay, validation_data=batches())
        results.append((np.concatenate([w.ravel() for w in model.get_weights()]), logs))
    (lazy, lazy_logs), (dense, dense_logs), (none, _) = results
    assert relative_distance(lazy, dense) < 1e-12
    assert relative_distance(none, dense) > 1e-2
    assert lazy_logs["loss"] == pytest.approx(dense_logs["loss"], rel=1e-12)
    assert lazy_logs["val_loss"] == pytest.approx(dense_logs["val_loss"], rel=1e-12)
    assert lazy_logs["weight_decay"] == dense_logs["weight_decay"]


@sparse
@pytest.mark.parametrize("arguments", [{"steps_per_execution": 4}, {"jit_compile": True}])
def test_it_equals_the_dense_form_however_the_step_is_compiled(arguments: dict[str, Any]) -> None:
    """Several steps in one execution; XLA."""
    tables = []
    for lazy in (True, False):
        model = embedded(keras.optimizers.SGD(ETA))
        model.compile(keras.optimizers.SGD(ETA), mse, **arguments)
        train(model, WeightDecay(LAM, lazy=lazy))
        tables.append(to_numpy(model.get_layer("table").embeddings))
    assert relative_distance(*tables) < 1e-12


@sparse
def test_a_row_that_no_batch_touches_is_decayed_at_the_end() -> None:
    """(1 - eta * lam) ** steps, also after a second fit with the same callback."""
    model = embedded(keras.optimizers.SGD(ETA))
    table = model.get_layer("table").embeddings
    before = to_numpy(table)[ROWS - 1]
    decay = WeightDecay(LAM, lazy=True)
    for steps in (2 * BATCHES, 4 * BATCHES):
        train(model, decay)
        expected = before * (1 - ETA * LAM) ** steps
        assert relative_distance(to_numpy(table)[ROWS - 1], expected) < 1e-12


@sparse
def test_every_table_is_settled() -> None:
    """A row that no batch touches decays in the second table as in the first."""
    layers = keras.layers
    inputs = keras.Input((LENGTH,), dtype="int32")
    tables = [layers.Embedding(ROWS, WIDTH, name=name) for name in ("first", "second")]
    rows = layers.add([table(inputs) for table in tables])
    model = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(rows)))
    model.compile(keras.optimizers.SGD(ETA), mse)
    before = [to_numpy(table.embeddings)[ROWS - 1] for table in tables]
    train(model, WeightDecay(LAM, lazy=True), epochs=1)
    for table, row in zip(tables, before, strict=True):
        expected = row * (1 - ETA * LAM) ** BATCHES
        assert relative_distance(to_numpy(table.embeddings)[ROWS - 1], expected) < 1e-12


@sparse
def test_a_checkpoint_of_every_epoch_is_up_to_date(tmp_path: Path) -> None:
    """ModelCheckpoint saves the decayed rows, also where it stands before the decay."""
    model = embedded(keras.optimizers.SGD(ETA))
    before = to_numpy(model.get_layer("table").embeddings)[ROWS - 1]
    path = str(tmp_path / "epoch-{epoch}.weights.h5")
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    train(model, checkpoint, WeightDecay(LAM, lazy=True), epochs=2)
    for epoch in (1, 2):
        model.load_weights(path.format(epoch=epoch))
        saved = to_numpy(model.get_layer("table").embeddings)[ROWS - 1]
        expected = before * (1 - ETA * LAM) ** (epoch * BATCHES)
        assert relative_distance(saved, expected) < 1e-12


@sparse
def test_rows_settle_before_a_save_in_mid_epoch() -> None:
    """settle() brings every row up to date; training goes on equal to the dense form."""

    class Save(keras.callbacks.Callback):
        saved: Any = None

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 4:
                decay.settle()
                self.saved = to_numpy(self.model.get_layer("table").embeddings)

    tables = []
    for lazy in (True, False):
        model, decay, save = (
            embedded(keras.optimizers.SGD(ETA)),
            WeightDecay(LAM, lazy=lazy),
            Save(),
        )
        train(model, decay, save)
        tables.append((save.saved, to_numpy(model.get_layer("table").embeddings)))
    for lazily, densely in zip(*tables, strict=True):
        assert relative_distance(lazily, densely) < 1e-12


@sparse
def test_after_an_exception_nothing_is_lost() -> None:
    """Rows that had still to decay when fit was interrupted do so in the next fit."""

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 4:
                raise KeyboardInterrupt

    tables = []
    for lazy in (True, False):
        model, decay = embedded(keras.optimizers.SGD(ETA)), WeightDecay(LAM, lazy=lazy)
        with pytest.raises(KeyboardInterrupt):
            train(model, decay, Interrupt())
        train(model, decay)
        tables.append(to_numpy(model.get_layer("table").embeddings))
    assert relative_distance(*tables) < 1e-12


@sparse
@pytest.mark.parametrize(
    ("optimizer", "embedding", "arguments", "message"),
    [
        ({"momentum": 0.5}, {}, {}, "without momentum, .*SGD with momentum"),
        ({"use_ema": True}, {}, {}, "without use_ema"),
        ({"gradient_accumulation_steps": 2}, {}, {}, "without gradient_accumulation_steps"),
        ({}, {"embeddings_constraint": "non_neg"}, {}, "embeddings without a constraint"),
        ({}, {"embeddings_regularizer": HalfL2(0.1)}, {}, "sparse gradients of the embedding"),
        ({}, {}, {"include": "*head*"}, "table of a keras.layers.Embedding"),
    ],
)
def test_what_touches_every_row_anyway_is_refused(
    optimizer: dict[str, Any], embedding: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    """What would make the lazy form another one than the dense raises when fit begins."""
    model = embedded(keras.optimizers.SGD(ETA, **optimizer), **embedding)
    with pytest.raises(ValueError, match=message):
        train(model, WeightDecay(LAM, lazy=True, **arguments))


@sparse
def test_other_optimizers_are_refused() -> None:
    """Adam moves the rows outside a batch as well."""
    with pytest.raises(ValueError, match=r"needs one of SGD.*Received: Adam"):
        train(embedded(keras.optimizers.Adam(ETA)), WeightDecay(LAM, lazy=True))


@sparse
def test_a_step_that_would_turn_the_sign_is_refused() -> None:
    """eta * lam >= 1 has no logarithm: it raises instead of writing nan."""
    import tensorflow as tf

    model = embedded(keras.optimizers.SGD(1.0))
    with pytest.raises(ValueError, match=r"learning_rate \* lam < 1.*Received: lam=1.0"):
        train(model, WeightDecay(1.0, lazy=True))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"learning_rate \* lam < 1"):
        train(model, WeightDecay(lambda step: 0.5 + step, lazy=True))


@pytest.mark.skipif(BACKEND == "tensorflow", reason="what the other backends say")
def test_without_sparse_gradients_it_is_refused() -> None:
    """JAX and torch have dense gradients: lazy says so when fit begins."""
    model = embedded(keras.optimizers.SGD(ETA))
    ids, targets = data()
    with pytest.raises(ValueError, match=r"`lazy=True` needs sparse gradients.*Leave out lazy"):
        model.fit(ids, targets, verbose=0, callbacks=[WeightDecay(LAM, lazy=True)])


@sparse
def test_it_is_lazy_in_ones_own_loop_too() -> None:
    """in_step catches rows up when they are read, and settles all of them at the end."""
    import tensorflow as tf

    tables = []
    for lazy in (True, False):
        model, optimizer = embedded(keras.optimizers.SGD(ETA)), keras.optimizers.SGD(ETA)

        @tf.function
        def step(ids: Any, targets: Any, model: Any = model, optimizer: Any = optimizer) -> None:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(model(ids) - targets))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)

        with WeightDecay(LAM, lazy=lazy).in_step(model, optimizer):
            for ids, targets in batches():
                step(ids, targets)
        tables.append(to_numpy(model.get_layer("table").embeddings))
    assert relative_distance(*tables) < 1e-12


class Ends(keras.callbacks.Callback):
    """What the last row is at the end of each epoch, for callbacks that stand before the decay."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.rows.append(to_numpy(self.model.get_layer("table").embeddings)[ROWS - 1])


@sparse
@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras, of an unknown length
@pytest.mark.factorial(steps_per_execution=[1, 3, 16], known=[True, False], lazy=[True, False])
def test_every_row_is_up_to_date_when_an_epoch_ends(
    lazy: bool, known: bool, steps_per_execution: int
) -> None:
    """Also of a dataset of unknown length, whose end Keras counts as a step, and decays on."""
    model, ends = embedded(keras.optimizers.SGD(ETA)), Ends()
    model.compile(keras.optimizers.SGD(ETA), mse, steps_per_execution=steps_per_execution)
    before = to_numpy(model.get_layer("table").embeddings)[ROWS - 1]
    data = batches() if known else batches().filter(lambda ids, targets: True)
    decay = WeightDecay(LAM, lazy=lazy)
    model.fit(data, epochs=2, verbose=0, shuffle=False, callbacks=[ends, decay])
    assert len(ends.rows) == 2
    for epoch, row in enumerate(ends.rows, start=1):
        assert relative_distance(row, before * (1 - ETA * LAM) ** (epoch * BATCHES)) < 1e-12


@sparse
def test_an_interrupted_fit_leaves_no_debt_to_another_callback() -> None:
    """Whatever trains next begins from the weights that dense decay would have left."""

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 4:
                raise KeyboardInterrupt

    tables = []
    for lazy in (True, False):
        model = embedded(keras.optimizers.SGD(ETA))
        with pytest.raises(KeyboardInterrupt):
            train(model, WeightDecay(LAM, lazy=lazy), Interrupt())
        train(model)  # without decay
        train(model, WeightDecay(LAM, lazy=lazy))
        tables.append(to_numpy(model.get_layer("table").embeddings))
    assert relative_distance(*tables) < 1e-12


@sparse
def test_a_table_read_past_its_layer_is_refused() -> None:
    """Rows that were taken from the variable itself could not catch up."""

    class Taking(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.table = keras.layers.Embedding(ROWS, WIDTH)

        def build(self, shape: Any) -> None:
            self.table.build(shape)

        def call(self, ids: Any) -> Any:
            return keras.ops.mean(keras.ops.take(self.table.embeddings, ids, axis=0), axis=1)

    layers = [keras.Input((LENGTH,), dtype="int32"), Taking(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(ETA), mse)
    with pytest.raises(ValueError, match="a look-up past the layer's call"):
        train(model, WeightDecay(LAM, lazy=True))


@sparse
def test_a_block_that_raises_settles_too() -> None:
    """in_step brings every row up to date however it ends."""
    model, optimizer = embedded(keras.optimizers.SGD(ETA)), keras.optimizers.SGD(ETA)
    decay = WeightDecay(LAM, lazy=True)
    table = model.get_layer("table").embeddings
    before = to_numpy(table)[ROWS - 1]

    def interrupted() -> None:
        with decay.in_step(model, optimizer):
            one_step(model, optimizer)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert relative_distance(to_numpy(table)[ROWS - 1], before * (1 - ETA * LAM)) < 1e-12


def one_step(model: Any, optimizer: Any) -> None:
    import tensorflow as tf

    ids, targets = next(iter(batches()))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(ids) - targets))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)


@sparse
@pytest.mark.parametrize("write", ["set_weights", "load_weights", "assign_sub"])
def test_a_table_that_is_written_in_mid_epoch_owes_nothing(write: str, tmp_path: Path) -> None:
    """Values from outside are decayed from then on, in every row alike, as in the dense form."""

    class Write(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 4:
                table = self.model.get_layer("table").embeddings
                if write == "set_weights":
                    self.model.set_weights([np.ones_like(w) for w in self.model.get_weights()])
                elif write == "load_weights":
                    self.model.load_weights(tmp_path / "ones.weights.h5")
                else:
                    table.assign_sub(np.ones(table.shape))

    ones = embedded(keras.optimizers.SGD(ETA))
    ones.set_weights([np.ones_like(weight) for weight in ones.get_weights()])
    ones.optimizer.build(ones.trainable_variables)
    ones.save_weights(tmp_path / "ones.weights.h5")
    tables, left = [], []
    for lazy in (True, False):
        model = embedded(keras.optimizers.SGD(ETA))
        attributes = set(vars(model.get_layer("table").embeddings))
        train(model, WeightDecay(LAM, lazy=lazy), Write(), epochs=1)
        tables.append(to_numpy(model.get_layer("table").embeddings))
        left.append(set(vars(model.get_layer("table").embeddings)) == attributes)
    assert relative_distance(*tables) < 1e-12
    assert all(left)
    if write != "assign_sub":  # a row that no batch has: three of the eight steps are left
        np.testing.assert_allclose(tables[0][ROWS - 1], (1 - ETA * LAM) ** 3, rtol=1e-12)
