"""`sweep` as a whole: groups, divergence, early stopping, Ctrl-C, what it returns."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._sweep import evaluation, group, loops, memory, stacking
from l2keras._sweep.group import Group
from tests.helpers import BACKEND, mse, to_numpy
from tests.sweeps import BATCH, EPOCHS, alone, data, distance, linear

LAMS = (0.0, 0.1, 0.3, 0.6, 0.9)


def run(lam: Any = LAMS, **options: Any) -> Any:
    settings: dict[str, Any] = {"epochs": EPOCHS, "batch_size": BATCH, "verbose": 0, "loss": mse}
    settings |= {"optimizer": keras.optimizers.SGD(0.1, momentum=0.5), **options}
    return l2keras.sweep(linear, lam, *data(), **settings)


def expected(lam: float, **options: Any) -> Any:
    optimizer = keras.optimizers.SGD(options.pop("learning_rate", 0.1), momentum=0.5)
    return alone(linear, data(), optimizer, lam=lam, loss=mse, **options)


def test_groups_that_fit_a_budget_do_what_one_group_does() -> None:
    """Five members in groups of 2, 2 and 1: each as if alone, and the note says how many."""
    one = memory.bytes_per_member(linear(), keras.optimizers.SGD(0.1, momentum=0.5), BATCH)
    result = run(memory_budget=2 * one + 1)
    megabytes = f"of {one / 2**20:.2g} MB each in a budget of {2 * one / 2**20:.2g} MB"
    assert result.notes == (f"5 members, 2 at once, {megabytes}",)
    for i in (1, 4):
        model, _ = expected(LAMS[i])
        assert distance(result.weights[i], model.get_weights()) < 1e-5


def test_the_loss_of_an_evaluation_is_that_of_its_batches() -> None:
    """Where it depends on how many examples a batch has, these are as in `fit`."""
    result = run(loss=keras.losses.MeanSquaredError("sum"), validation_data=data(), lam=(0.0, 0.3))
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

    options: dict[str, Any] = {"loss": "mse", "metrics": metrics, "epochs": EPOCHS}
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
        ("mse", [rmse], False),
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
    plain = keras.Model(inputs, keras.layers.Add()([hidden, hidden]))
    found = [evaluation.is_by_example(m, "mse", None) for m in (plain, mixed, masking, function)]
    assert found == [True, False, False, False]


def test_the_loss_of_masked_steps_is_that_of_its_batches() -> None:
    """A mean over the steps of a batch that are not masked is no mean over its examples."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(11, 5, 3)).astype("float32")
    for i, length in enumerate(generator.integers(1, 6, 11)):
        x[i, length:] = 0
    y = generator.normal(size=(11, 5, 2)).astype("float32")

    def build() -> Any:
        parts = [keras.layers.Masking(), keras.layers.SimpleRNN(2, return_sequences=True)]
        return keras.Sequential([keras.Input((5, 3)), *parts])

    options: dict[str, Any] = {"loss": "mse", "epochs": EPOCHS, "validation_data": (x, y)}
    result = l2keras.sweep(
        build, (0.0, 0.3), x, y, optimizer=keras.optimizers.SGD(0.1), batch_size=BATCH, verbose=0,
        **options,
    )  # fmt: skip
    _, history = alone(build, (x, y), keras.optimizers.SGD(0.1), lam=0.3, **options)
    assert result.history["val_loss"][1] == pytest.approx(history["val_loss"], rel=1e-5, abs=0)


METRICS: dict[str, tuple[Callable[[], Any], bool]] = {
    "top k": (lambda: keras.metrics.TopKCategoricalAccuracy(2, name="seen"), True),
    "sparse top k": (lambda: keras.metrics.SparseTopKCategoricalAccuracy(2, name="seen"), False),
    "IoU": (lambda: keras.metrics.MeanIoU(4, sparse_y_pred=False, name="seen"), False),
    "AUC": (lambda: keras.metrics.AUC(num_thresholds=20, name="seen"), True),
}


@pytest.mark.parametrize("name", METRICS)
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
        return {"loss": kind(), "metrics": [metric()], "epochs": EPOCHS}

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


def fail_after(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs out of memory in the second epoch after so many groups."""
    fit, calls = Group.fit, []

    def failing(self: Any, batches: Any) -> Any:
        calls.append(self)
        if len(calls) == EPOCHS * groups + 2:
            raise RuntimeError("out of memory\nand much more about it")
        return fit(self, batches)

    monkeypatch.setattr(Group, "fit", failing)


def test_an_error_loses_no_member_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the first group of two are returned, those of the second have one epoch."""
    optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
    budget = 2 * memory.bytes_per_member(linear(), optimizer, BATCH) + 1
    fail_after(1, monkeypatch)
    with pytest.warns(UserWarning, match="3 members .* RuntimeError: out of memory$"):
        result = run(memory_budget=budget)
    assert result.status == ("finished", "finished", "interrupted", "interrupted", "waiting")
    assert result.epochs == (EPOCHS, EPOCHS, 1, 1, 0)
    assert "3 members were not trained to the end" in str(result)
    model, _ = expected(LAMS[1])
    assert distance(result.weights[1], model.get_weights()) < 1e-5


def test_an_error_before_any_is_done_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to return."""
    fail_after(0, monkeypatch)
    with pytest.raises(RuntimeError, match="out of memory"):
        run()


def test_steps_are_apart_for_convolutions_on_jax() -> None:
    """Dense layers, and other backends, stay in one program."""
    convolution = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(1, 2)])
    on_cpu = BACKEND == "jax" and not memory.on_gpu()
    assert stacking.steps_apart(convolution) is on_cpu
    assert not stacking.steps_apart(linear())


@pytest.mark.skipif(BACKEND != "jax", reason="a choice that is JAX's")
def test_steps_apart_do_what_a_loop_of_steps_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 3 steps, the last one padded: the steps that are not asked for change nothing."""
    monkeypatch.setattr(group, "CHUNK", 3)
    options: dict[str, Any] = {"batch_size": 2, "seeds": (0, 1)}  # 5 full batches and a rest of 1
    looped = run((0.1, 0.6), **options)
    monkeypatch.setattr(stacking, "steps_apart", lambda model: True)
    apart = run((0.1, 0.6), **options)
    for a, b in zip(apart.weights, looped.weights, strict=True):
        assert distance(a, b) < 1e-6


def test_the_same_call_gives_the_same_result() -> None:
    """Twice with the same seeds, and the user's own random numbers between."""
    first = run((0.1, 0.6), seeds=(3, 4))
    keras.utils.set_random_seed(99)
    second = run((0.1, 0.6), seeds=(3, 4))
    for a, b in zip(first.weights, second.weights, strict=True):
        assert distance(a, b) == 0
    assert distance(first.weights[0], first.weights[1]) > 0.01


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_member_that_diverges_is_frozen_and_the_others_go_on() -> None:
    """Its history ends with the epoch that is not finite; the other is that of `fit`."""
    result = run(0.6, learning_rates=[0.1, 1e30])
    assert result.status == ("finished", "diverged")
    assert "diverged" in str(result)
    assert result.epochs == (EPOCHS, 1)
    assert len([row for row in result.table() if row["member"] == 1]) == 1
    model, history = expected(0.6)
    assert distance(result.weights[0], model.get_weights()) < 1e-5
    assert result.history["loss"][0] == pytest.approx(history["loss"], rel=1e-5)


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("average", [False, True])
def test_each_member_stops_early_as_in_fit(restore: bool, average: bool) -> None:
    """After as many epochs, with the weights of the last or of the best one."""
    options: dict[str, Any] = {"validation_data": data(examples=7), "epochs": 8}

    def stopping() -> Any:
        return keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=restore)

    def optimizer() -> Any:
        return keras.optimizers.SGD(0.6, use_ema=average, ema_momentum=0.5)

    lams = (0.0, 0.2, 0.8)
    result = run(lams, optimizer=optimizer(), early_stopping=stopping(), **options)
    epochs = []
    for i, lam in enumerate(lams):
        callbacks = [stopping()]
        model, history = alone(
            linear, data(), optimizer(), lam=lam, loss=mse, callbacks=callbacks, **options
        )
        epochs.append(len(history["val_loss"]))
        own = result.history["val_loss"][i]
        assert own[~np.isnan(own)] == pytest.approx(history["val_loss"], rel=1e-5)
        assert distance(result.weights[i], model.get_weights()) < 1e-5
    assert min(epochs) < 8  # one at least has stopped
    assert result.status == tuple("stopped" if n < 8 else "finished" for n in epochs)


def test_what_is_interrupted_returns_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second epoch of the second group: that has one epoch, the third none."""
    one = memory.bytes_per_member(linear(), keras.optimizers.SGD(0.1, momentum=0.5), BATCH)
    calls = []
    step = loops.Loop.__call__

    def counted(self: Any, indices: Any) -> None:
        step(self, indices)
        calls.append(len(indices))
        now = sum(calls)
        if now > 3 * EPOCHS + 3 >= now - len(indices):  # 3 batches an epoch, see tests.sweeps
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loops.Loop, "__call__", counted)
    result = run(LAMS, memory_budget=2 * one + 1)
    assert result.status == ("finished", "finished", "interrupted", "interrupted", "waiting")
    assert result.notes[-1] == "interrupted"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    model, _ = expected(LAMS[1])
    assert distance(result.weights[1], model.get_weights()) < 1e-5
    assert [row["epoch"] for row in result.table() if row["member"] == 2] == [0]
    keras.utils.set_random_seed(0)
    assert distance(result.weights[4], linear().get_weights()) == 0


def test_an_interruption_from_elsewhere_is_heard_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyboardInterrupt out of the progress bar: the first epoch is there."""

    def interrupt(self: Any, *args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.utils.Progbar, "add", interrupt)
    result = run((0.0, 0.6))
    assert result.status == ("interrupted", "interrupted")
    model, _ = expected(0.6, epochs=1)
    assert distance(result.weights[1], model.get_weights()) < 1e-5


def test_the_table_tells_schedules_apart() -> None:
    """By their number, where there are several of a kind."""
    decay = keras.optimizers.schedules.ExponentialDecay
    cosine = keras.optimizers.schedules.CosineDecay(0.1, 4)
    rates = [decay(0.1, 4, 0.5), cosine, decay(0.2, 4, 0.5), 0.1]
    result = run(0.1, learning_rates=rates, epochs=1)
    names = ["ExponentialDecay 1", "CosineDecay", "ExponentialDecay 2"]
    assert [row["learning_rate"] for row in result.table()] == [*names, 0.1]
    assert all(f" {name} " in str(result) for name in names)


def test_the_table_has_the_optimizers_own_learning_rate() -> None:
    """As it was written, not as float32 has it."""
    result = run(0.1, optimizer=keras.optimizers.SGD(0.01), epochs=1)
    assert result.table()[0]["learning_rate"] == 0.01


def test_a_member_is_an_ordinary_model() -> None:
    """It is built, has the member's weights, predicts, saves its own; another is not touched."""
    result = run((0.0, 0.6))
    model, again = result.member(1), result.member(1)
    trained, _ = expected(0.6)
    x, _ = data()
    for own, weights in zip(model.get_weights(), result.weights[1], strict=True):
        np.testing.assert_array_equal(own, weights)
    np.testing.assert_allclose(
        model.predict(x, verbose=0), trained.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )
    model.layers[0].kernel.assign(np.zeros((3, 4)))
    assert np.any(to_numpy(again.layers[0].kernel))


def test_the_table_has_a_row_for_each_epoch_of_each_member() -> None:
    """With what parts the members, in the order lam, learning rate, seed."""
    result = run((0.0, 0.6), learning_rates=[0.1, 0.2], seeds=(5, 6), epochs=2)
    rows = result.table()
    assert [row["member"] for row in rows] == [i for i in range(8) for _ in range(2)]
    last = rows[-1]
    assert [last[name] for name in ("lam", "learning_rate", "seed", "epoch")] == [0.6, 0.2, 6, 1]
    assert last["loss"] == result.history["loss"][7, 1]
    assert str(result).count("finished") == 8


def with_dropout() -> Any:
    return keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(8), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    )


@pytest.mark.skipif(BACKEND == "torch", reason="torch's dropout takes no seed: see the next test")
def test_dropout_draws_the_masks_of_fit() -> None:
    """With each seed the weights are those of `fit`."""
    result = l2keras.sweep(
        with_dropout, (0.0, 0.6), *data(), optimizer=keras.optimizers.SGD(0.1), loss=mse,
        batch_size=BATCH, epochs=EPOCHS, seeds=(0, 1), verbose=0,
    )  # fmt: skip
    sgd = keras.optimizers.SGD(0.1)
    model, _ = alone(with_dropout, data(), sgd, lam=0.6, seed=1, loss=mse)
    assert distance(result.weights[3], model.get_weights()) < 1e-5


@pytest.mark.parametrize("seed", [None, 7])
def test_dropout_keeps_what_it_should_on_average(seed: int | None) -> None:
    """Of ones, dropout of 1/4 keeps 3/4, other ones for each member and step."""

    def build() -> Any:
        drop = keras.layers.Dropout(0.25, seed=seed)
        dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        return keras.Sequential([keras.Input((1000,)), drop, dense])

    ones = np.ones((1, 1000), "float32")
    # one step of size 1/2 on (w x - 1) ** 2 from zero: the weight is the mask / (3/4)
    result = l2keras.sweep(
        build, (0.0, 0.1), ones, ones[:, :1], optimizer=keras.optimizers.SGD(0.5), loss=mse,
        coupling="coupled", seeds=(0, 1), verbose=0,
    )  # fmt: skip
    masks = [weights[0][:, 0] for weights in result.weights]
    for mask in masks:
        assert {round(float(value), 4) for value in mask} == {0.0, 1.3333}
        assert np.mean(mask > 0) == pytest.approx(0.75, abs=0.06)
    assert seed is not None or np.any(masks[0] != masks[1])


def test_several_inputs_and_outputs_by_name() -> None:
    """A model of dictionaries is trained as `fit` trains it."""

    def build() -> Any:
        a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
        hidden = keras.layers.Dense(4, activation="tanh")(keras.layers.Concatenate()([a, b]))
        outputs = {name: keras.layers.Dense(2, name=name)(hidden) for name in ("p", "q")}
        return keras.Model({"a": a, "b": b}, outputs)

    x, y = data()
    inputs, targets = {"a": x, "b": y}, {"p": y, "q": x[:, :2]}
    loss = {"p": "mse", "q": "mae"}
    metrics = {"p": ["mae"], "q": ["mse"]}
    result = l2keras.sweep(
        build, (0.0, 0.6), inputs, targets, optimizer=keras.optimizers.SGD(0.1), loss=loss,
        metrics=metrics, epochs=EPOCHS, batch_size=BATCH, verbose=0,
    )  # fmt: skip

    model, history = alone(
        build, (inputs, targets), keras.optimizers.SGD(0.1), lam=0.6, loss=loss, metrics=metrics
    )
    assert distance(result.weights[1], model.get_weights()) < 1e-5
    for name in ("loss", "p_mae", "q_mse"):
        assert result.history[name][1] == pytest.approx(history[name], rel=1e-4)


def convolution() -> Any:
    flat = [keras.layers.Flatten(), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3), *flat])


def test_the_result_says_where_stacking_gains_nothing() -> None:
    """On JAX, on a CPU, convolutions are trained one by one, and elsewhere at once."""
    result = l2keras.sweep(convolution, (0.0, 0.1), *data((4, 4, 1)), loss=mse, verbose=0)
    alone_on_jax = "2 members, 1 at once, as JAX's stacked convolutions are slower than plain ones"
    if BACKEND == "jax":
        assert result.notes == (f"{alone_on_jax} on a CPU",)
    else:
        assert result.notes[0].startswith("2 members, 2 at once, of 0.0")
    assert result.notes[0] in str(result)
