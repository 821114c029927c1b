"""PenaltySplit observes: the weights are those of a fit without it, and each part is exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from l2keras import HalfL2, PenaltySplit, WeightDecay, model_penalty
from tests.support.models import BACKEND, fit, kernel, mse

ONE, ZERO = np.ones((4, 1), "float32"), np.zeros((4, 1), "float32")


class Square(keras.layers.Layer):
    """Adds the mean square of what it sees to the loss."""

    def call(self, x: Any) -> Any:
        self.add_loss(ops.mean(ops.square(x)))
        return x


class Own(keras.Model):
    """One weight, 1, with HalfL2(0.5): its penalty is 0.25, and on (1, 0) its mse 1."""

    def __init__(self, own_loss: Callable[..., Any] | None = None, extra: float = 0.0) -> None:
        super().__init__()
        self.layer = keras.layers.Dense(
            1,
            use_bias=False,
            kernel_initializer="ones",
            kernel_regularizer=HalfL2(0.5),
            name="dense",
        )
        self.square = Square()
        self.tracker = keras.metrics.Mean(name="own")
        self.own_loss = own_loss
        self.extra = extra

    def build(self, shape: Any) -> None:
        self.layer.build(shape)
        self.square.build(shape)
        self.built = True

    def call(self, x: Any) -> Any:
        return self.layer(x)

    @property
    def losses(self) -> Any:
        extra = [ops.sum(self.layer.kernel) * self.extra] if self.extra else []
        return super().losses + extra

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        def keras_loss(predictions: Any = y_pred) -> Any:
            return super(Own, self).compute_loss(x, y, predictions, sample_weight, training)

        return self.own_loss(self, keras_loss, x) if self.own_loss else keras_loss()


def made(own_loss: Callable[..., Any] | None = None, **arguments: Any) -> Own:
    model = Own(own_loss, arguments.pop("extra", 0.0))
    model.build((None, 1))
    model.compile(keras.optimizers.SGD(0.1), mse, **arguments)
    return model


def tracked(model: Any, keras_loss: Any, x: Any) -> Any:
    model.last = keras_loss()
    model.tracker.update_state(model.last)
    return model.last + 1.0


def added(model: Any, keras_loss: Any, x: Any) -> Any:
    model.square(model.layer(x))
    return sum(model.losses)


def _guarded(loss: Any) -> Any:
    """Replaces nan by 0, on JAX in a compiled function."""
    if BACKEND != "jax":
        return ops.where(ops.isfinite(loss), loss, 0.0)
    import jax

    return jax.jit(lambda value: ops.where(ops.isfinite(value), value, 0.0))(loss)


LOSSES: dict[str, tuple[Callable[..., Any] | None, float, float]] = {
    "keras": (None, 1.0, 0.25),
    "scaled": (lambda model, loss, x: 0.1 * loss(), 0.1, 0.025),
    "twice": (lambda model, loss, x: loss() + loss(), 2.0, 0.5),
    "two passes": (lambda model, loss, x: loss() + loss(2 * model(x)), 5.0, 0.5),
    "one pass more": (lambda model, loss, x: loss() + ops.mean(ops.square(model(x))), 2.0, 0.25),
    "of a layer": (lambda model, loss, x: loss() + 4 * sum(model.layer.losses), 1.0, 1.25),
    "model_penalty": (lambda model, loss, x: loss() + 2 * model_penalty(model), 1.0, 0.75),
    "read twice": (lambda model, loss, x: 3 * loss() + 0.0 * sum(model.losses), 3.0, 0.75),
    "stored": (tracked, 2.0, 0.25),
    "guarded": (lambda model, loss, x: _guarded(loss()), 1.0, 0.25),
}
if BACKEND != "jax":  # there Keras loses a loss that compute_loss adds
    LOSSES["added"] = added, 1.0, 0.25


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_split_and_trained_on_as_it_is(name: str) -> None:
    """The parts are right, those of an evaluation too, and no bit of the weights changes."""
    own_loss, data_loss, penalty = LOSSES[name]
    eager = BACKEND == "tensorflow" and name != "added"  # tracing takes longer than three steps
    plain, split = (made(own_loss, run_eagerly=eager) for _ in range(2))
    before = split.evaluate(ONE, ZERO, verbose=0, return_dict=True, callbacks=[PenaltySplit()])
    logs = fit(split, (ONE, ZERO), [PenaltySplit()])
    fit(plain, (ONE, ZERO))
    expected = pytest.approx({"data_loss": data_loss, "penalty": penalty}, rel=1e-6)
    assert {key: before[key] for key in ("data_loss", "penalty")} == expected
    assert {key: logs[key][0] for key in ("data_loss", "penalty")} == expected
    assert logs["loss"] == pytest.approx([data_loss + penalty], rel=1e-6)
    assert kernel(split) != 1.0
    assert np.array_equal(kernel(split), kernel(plain))


def test_a_losses_property_is_no_list_of_positions() -> None:
    """What a property of the user's own adds after the penalties is data loss."""
    logs = fit(made(extra=7.0), (ONE, ZERO), [PenaltySplit()])
    assert logs["penalty"] == [0.25]
    # On JAX Keras asks the property in the forward pass and in compute_loss, and counts 7 twice.
    assert logs["data_loss"] == [15.0 if BACKEND == "jax" else 8.0]


NOT_LINEAR: dict[str, Callable[[Any], Any]] = {
    "logarithm": ops.log,
    "square": ops.square,
    "flooded": lambda loss: ops.abs(loss - 50.0) + 50.0,  # linear on each side
}
if BACKEND != "jax":  # where the loss is constant, its parts are a constant and 0
    NOT_LINEAR["relu"] = lambda loss: ops.relu(loss - 50.0) + 50.0


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_a_loss_that_is_not_linear_in_the_penalty_raises(name: str) -> None:
    """No number is logged where penalty and data loss cannot be told apart."""
    function = NOT_LINEAR[name]
    model = made(lambda model, loss, x: function(loss()), run_eagerly=BACKEND == "tensorflow")
    with pytest.raises(RuntimeError, match="linear in the penalties"):
        fit(model, (ONE, ZERO), [PenaltySplit()])
    assert set(fit(model, (ONE, ZERO))) == {"loss", "own"}


@pytest.mark.skipif(BACKEND != "jax", reason="the others see what makes up the loss, not its slope")
@pytest.mark.parametrize(
    "select",
    [
        lambda loss: ops.where(loss > 1e4, 0.0, loss),
        lambda loss: ops.mean(ops.top_k(ops.stack([loss, 0.5 * loss]), 1)[0]),
    ],
)
def test_a_loss_that_selects_is_linear_in_what_it_selects(select: Callable[[Any], Any]) -> None:
    """A guard against outliers, and the hardest examples: penalty .25, and the rest."""
    model = made(lambda model, loss, x: select(loss()))
    logs = fit(model, (ONE, ZERO), [PenaltySplit()])
    assert logs["penalty"] == [0.25]
    assert logs["loss"][0] == pytest.approx(logs["data_loss"][0] + 0.25)


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX forbids values to leave a trace")
def test_what_compute_loss_keeps_may_be_read_in_the_same_step() -> None:
    """A value without penalties, in a list that no one sees; the step reads it afterwards."""

    def kept(model: Any, loss: Any, x: Any) -> Any:
        model.parts.append(ops.mean(x))
        return loss()

    class Keeping(list[Any]):
        """A list that Keras does not track."""

    model = made(kept)
    object.__setattr__(model, "parts", Keeping())
    step = model.compute_loss_and_updates

    def reading(*arguments: Any, **options: Any) -> Any:
        loss, rest = step(*arguments, **options)
        return loss + 0.0 * model.parts[-1], rest

    object.__setattr__(model, "compute_loss_and_updates", reading)
    logs = fit(model, (ONE, ZERO), [PenaltySplit()])
    assert logs["penalty"] == [0.25]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the step is TensorFlow's")
@pytest.mark.parametrize("times", [0, 2])
def test_a_step_that_calls_compute_loss_not_once_raises(times: int) -> None:
    """The logged loss of two calls is not the mean of both, and that of none is unknown."""
    import tensorflow as tf

    class Step(Own):
        def train_step(self, data: Any) -> Any:
            with tf.GradientTape() as tape:
                predictions = self(data[0])
                losses = [self.compute_loss(data[0], data[1], predictions) for _ in range(times)]
                loss = sum(losses, start=tf.reduce_mean(predictions))
            variables = self.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            self._loss_tracker.update_state(loss)
            return self.get_metrics_result()

    model = Step()
    model.build((None, 1))
    model.compile(keras.optimizers.SGD(0.1), mse, run_eagerly=True)
    match = f"train_step {'calls it 2 times' if times else 'does not call it'}"
    with pytest.raises(RuntimeError, match=match):
        fit(model, (ONE, ZERO), [PenaltySplit()])


class OwnMetrics(Own):
    """Lists no metrics but its own, as an example of Keras does."""

    @property
    def metrics(self) -> list[Any]:
        return [self.tracker]


def test_metrics_that_leave_the_parts_out_raise() -> None:
    """A model that lists its metrics itself has the parts in no log."""
    model = OwnMetrics(tracked)
    model.build((None, 1))
    model.compile(keras.optimizers.SGD(0.1), mse, run_eagerly=BACKEND == "tensorflow")
    with pytest.raises(RuntimeError, match="metrics leave them out: own"):
        fit(model, (ONE, ZERO), [PenaltySplit()])
    with pytest.raises(RuntimeError, match="metrics leave them out: own"):
        model.evaluate(ONE, ZERO, verbose=0, callbacks=[PenaltySplit()])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.function is TensorFlow's")
def test_penalties_in_a_compiled_function_raise() -> None:
    """A `compute_loss` that is a tf.function hides what it evaluates."""
    import tensorflow as tf

    class Compiled(Own):
        compute_loss = tf.function(Own.compute_loss)

    model = Compiled()
    model.build((None, 1))
    model.compile(keras.optimizers.SGD(0.1), mse)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="linear in the penalties"):
            fit(model, (ONE, ZERO), [PenaltySplit()])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.function is TensorFlow's")
@pytest.mark.parametrize("with_loss", [True, False])
def test_a_compiled_train_step_raises_and_keeps_nothing(with_loss: bool) -> None:
    """It would log the parts in later fits too; traced before, it cannot be split."""
    import tensorflow as tf

    def step(self: Any, data: Any) -> Any:
        if with_loss:
            self.compute_loss(data[0], data[1], self(data[0]))
        return self.get_metrics_result()

    model = type("Step", (Own,), {"train_step": tf.function(step)})()
    model.build((None, 1))
    model.compile(keras.optimizers.SGD(0.0), mse, run_eagerly=with_loss)
    cause = r"function `\w+` inside it" if with_loss else "does not call it, or in the tf.function"
    with pytest.raises(RuntimeError, match=rf"^`PenaltySplit` needs.*{cause}"):
        fit(model, (ONE, ZERO), [PenaltySplit()])
    assert set(fit(model, (ONE, ZERO))) == {"loss", "own"}
    with pytest.raises(RuntimeError, match=r"in the tf.function train_step, traced before"):
        fit(model, (ONE, ZERO), [PenaltySplit()])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.function is TensorFlow's")
@pytest.mark.parametrize("name", ["compute_metrics", "get_metrics_result"])
@pytest.mark.parametrize("traced_before", [True, False])
def test_a_compiled_function_that_reads_the_metrics_is_fine(name: str, traced_before: bool) -> None:
    """Its trace has no part, so that a later fit logs none; this one logs them all the same."""
    import tensorflow as tf

    model = type("Reads", (Own,), {name: tf.function(getattr(keras.Model, name))})()
    model.build((None, 1))
    model.compile(keras.optimizers.SGD(0.0), mse)
    data = ONE, ZERO
    if traced_before:
        fit(model, data)
    logs = fit(model, data, [PenaltySplit()], epochs=2, validation_data=data)
    for prefix in ("", "val_"):
        assert logs[f"{prefix}loss"] == [1.25] * 2
        assert logs[f"{prefix}data_loss"] == [1.0] * 2
        assert logs[f"{prefix}penalty"] == [0.25] * 2
    assert set(fit(model, data)) == {"loss", "own"}


def test_compile_in_mid_fit_is_followed() -> None:
    """From then on the new loss is split; a fit without the callback trains on it, too."""
    model = made()
    model.compile(keras.optimizers.SGD(0.0), mse)

    def compile_again(epoch: int, logs: Any) -> None:
        if epoch == 1:
            model.compile(keras.optimizers.SGD(0.0), lambda y, p: 5 * mse(y, p))
            model.optimizer.build(model.trainable_variables)
            model.make_train_function(force=True)

    again = keras.callbacks.LambdaCallback(on_epoch_begin=compile_again)
    fit(model, (ONE, ZERO))  # Keras' own function exists
    history = fit(model, (ONE, ZERO), [again, PenaltySplit()], epochs=3)
    assert history["data_loss"] == [1.0, 5.0, 5.0]
    assert history["penalty"] == [0.25] * 3
    assert fit(model, (ONE, ZERO))["loss"] == [5.25]
    model.compile(keras.optimizers.SGD(0.0), lambda y, p: 2 * mse(y, p))
    assert fit(model, (ONE, ZERO))["loss"] == [2.25]
    assert fit(model, (ONE, ZERO), [PenaltySplit()])["data_loss"] == [2.0]


@pytest.mark.skipif(BACKEND == "torch", reason="torch does not trace")
@pytest.mark.parametrize("decay", ["none", "before", "after"])
def test_a_later_fit_uses_the_compiled_step_again(decay: str) -> None:
    """The model is traced in the first fit of each kind, with another callback too."""
    traces: list[int] = []

    def traced(model: Any, keras_loss: Any, x: Any) -> Any:
        traces.append(1)
        return keras_loss()

    model, weight_decay = made(traced), [WeightDecay(0.5)]

    def callbacks() -> list[Any]:
        split = [PenaltySplit()]
        kinds = {"none": split, "before": weight_decay + split, "after": split + weight_decay}
        return kinds[decay]

    data = ONE, ZERO
    expected = 1.0
    for second in (False, True):
        traces.clear()
        for number in range(2):
            history = fit(model, data, callbacks(), validation_data=data)
            assert history["penalty"] == pytest.approx([0.25 * expected**2], rel=1e-5)
            # The gradient is 2 w + 0.5 w, and the decay 0.5 w.
            expected *= 1 - 0.1 * (2.5 if decay == "none" else 3.0)
            assert kernel(model) == pytest.approx(expected, rel=1e-5)
            assert set(history) >= {"loss", "data_loss", "val_penalty"}
            if number == 0:
                first = len(traces)
        assert len(traces) == first
        assert (first == 0) == second
        if not second:
            assert set(fit(model, data)) == {"loss", "own"}
            expected *= 1 - 0.1 * 2.5
