"""WeightDecay in models that train with several optimizers: each variable, or an error."""

from __future__ import annotations

import copy
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras import WeightDecay
from tests.support.models import BACKEND, to_numpy

ZEROS = np.zeros((4, 1), "float32")
ETA_FIRST, ETA_SECOND = 0.5, 0.25


class Adversarial(keras.Model):
    """Two layers with kernel 1: `optimizer` steps the body, `second` the head, with gradient 0."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.body = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="body")
        self.head = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="head")
        self.spare = keras.layers.Dense(1, name="spare")
        self.spare.trainable = False
        self.second = keras.optimizers.SGD(ETA_SECOND)

    def build(self, shape: Any) -> None:
        for part in (self.body, self.head, self.spare):
            part.build(shape)

    def call(self, inputs: Any) -> Any:
        return self.head(self.body(inputs))

    def train_step(self, *arguments: Any) -> Any:
        parts = ((self.optimizer, self.body), (self.second, self.head))
        if BACKEND == "jax":
            return self._jax_step(parts, *arguments)
        for optimizer, part in parts:
            optimizer.apply([keras.ops.zeros((1, 1))], part.trainable_variables)
        return {"loss": keras.ops.zeros(())}

    def _jax_step(self, parts: Any, state: Any, data: Any) -> Any:
        (body, head, *rest), other, of_first, metrics = state
        (first, _), (second, _) = parts
        of_second = [variable.value for variable in second.variables]  # not in Keras' state
        gradient = [keras.ops.zeros((1, 1))]
        body, of_first = first.stateless_apply(of_first, gradient, [body])
        head, _ = second.stateless_apply(of_second, gradient, [head])
        return {"loss": keras.ops.zeros(())}, ([*body, *head, *rest], other, of_first, metrics)


def adversarial(**compiled: Any) -> Any:
    model = Adversarial(name="gan")
    model.build((None, 1))
    model.compile(keras.optimizers.SGD(ETA_FIRST), **compiled)
    model.optimizer.build(model.body.trainable_variables)
    model.second.build(model.head.trainable_variables)
    return model


def kernels(model: Any) -> list[float]:
    return [float(to_numpy(part.kernel)[0, 0]) for part in (model.body, model.head)]


def train(model: Any, *callbacks: Any) -> dict[str, list[float]]:
    """Two steps of one epoch."""
    history = model.fit(ZEROS, batch_size=2, verbose=0, callbacks=list(callbacks))
    logs: dict[str, list[float]] = history.history
    return logs


@pytest.mark.parametrize("named", [True, False])
def test_each_optimizer_has_a_decay_of_its_own(named: bool) -> None:
    """One WeightDecay for each optimizer decays what that one updates, at its learning rate."""
    model = adversarial()
    second = "second" if named else model.second
    logs = train(model, WeightDecay(0.5, optimizer="optimizer"), WeightDecay(1.0, optimizer=second))
    np.testing.assert_allclose(kernels(model), [(1 - 0.5 * 0.5) ** 2, (1 - 0.25 * 1.0) ** 2])
    assert logs["decay_per_step"] == [0.25]
    assert logs["decay_per_step_2"] == [0.25]
    assert logs["weight_decay_2"] == [1.0]


def test_without_an_optimizer_the_compiled_one_counts() -> None:
    """Patterns that select what the compiled optimizer updates need nothing else."""
    model = adversarial()
    train(model, WeightDecay(0.5, include="*body*"))
    np.testing.assert_allclose(kernels(model), [(1 - 0.5 * 0.5) ** 2, 1.0])


@pytest.mark.parametrize("include", [None, "*head*", "*"])
def test_what_another_optimizer_updates_is_an_error(include: str | None) -> None:
    """The first step raises, with the variable, its optimizer and the remedy, which works."""
    model, batches = adversarial(), []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(1))
    message = r"Received: gan/head/kernel, which `second` updates.*optimizer=\"second\""
    with pytest.raises(RuntimeError, match=message):
        train(model, count, WeightDecay(0.5, include=include))
    assert len(batches) <= 1
    before = kernels(model)[1]
    train(model, WeightDecay(0.5, optimizer="second", include="*head*"))
    np.testing.assert_allclose(kernels(model)[1], before * (1 - 0.25 * 0.5) ** 2)


def test_a_variable_that_nothing_updates_is_an_error() -> None:
    """What is selected and gets no gradient is named, with the pattern that leaves it out."""
    model = adversarial()
    model.spare.trainable = True
    decay = WeightDecay(0.5, include=["*body*", "*spare/kernel"])
    with pytest.raises(RuntimeError, match=r"spare/kernel, which no step updated.*exclude="):
        train(model, decay)


def test_an_optimizer_that_the_model_does_not_hold_is_named() -> None:
    """A wrong name lists those that there are; something else is refused at construction."""
    with pytest.raises(ValueError, match=r"optimizer='secnd'. The model holds: optimizer, second"):
        train(adversarial(), WeightDecay(0.5, optimizer="secnd"))
    with pytest.raises(TypeError, match="or the name of its attribute"):
        WeightDecay(0.5, optimizer=0.1)


def test_a_copy_of_an_optimizer_is_none_of_the_model() -> None:
    """A copied or pickled callback has another optimizer: the error says so, and names theirs."""
    model = adversarial()
    decay = copy.deepcopy(WeightDecay(0.5, optimizer=model.second, include="*head*"))
    message = r"optimizer=SGD, which the model does not hold.*the model holds: optimizer, second\."
    with pytest.raises(RuntimeError, match=message):
        train(model, decay)


def test_an_own_weight_decay_of_that_optimizer_is_refused() -> None:
    """Decay twice is found by the optimizer that updates, not by the compiled one."""
    model = adversarial()
    model.second = keras.optimizers.AdamW(0.1, weight_decay=0.1)
    with pytest.raises(ValueError, match="applied twice"):
        train(model, WeightDecay(0.5, optimizer="second"))


@pytest.mark.parametrize("both", [True, False])
def test_the_report_waits_for_what_each_optimizer_updates(
    both: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A second optimizer that the first step builds: one lam for each kernel, nothing twice."""
    model = adversarial(run_eagerly=BACKEND != "jax")
    if BACKEND != "jax":  # there it has to be built before
        model.second = keras.optimizers.SGD(ETA_SECOND)
    decay = WeightDecay(1.0, optimizer="second")
    other = [WeightDecay(0.5, optimizer="optimizer")] if both else []
    caplog.set_level("INFO", "l2keras")
    train(model, decay, *other)
    report = decay.report
    assert report is not None
    lams = [report.row(f"gan/{name}/kernel").lam for name in ("body", "head")]
    assert lams == [0.5 if both else 0.0, 1.0]
    assert "decayed-twice" not in report.codes()
    [line] = [record.getMessage() for record in caplog.records if record.name == "l2keras"]
    assert report.digest in line
    assert report.digest == l2keras.audit(model, [decay, *other]).digest


def test_what_an_optimizer_will_update_is_not_known_before() -> None:
    """An audit before the first step says that lam is not known, and "may be" of decay twice."""
    model = adversarial()
    model.second = keras.optimizers.SGD(ETA_SECOND)
    report = l2keras.audit(model, [WeightDecay(1.0, optimizer="second"), WeightDecay(0.5)])
    assert report.row("gan/head/kernel").lam is None
    [found] = [one for one in report.findings if one.code == "decayed-twice"]
    assert found.severity == "warning"
    assert found.message.startswith("May be decayed by callback and callback: 2 variables")


def test_an_optimizer_that_steps_now_and_then_is_no_error() -> None:
    """In eager mode the second optimizer may update for the first time in a later step."""
    if BACKEND == "jax":
        pytest.skip("on JAX the step of this test is traced")

    class NowAndThen(Adversarial):
        steps = 0

        def train_step(self, *arguments: Any) -> Any:
            self.steps += 1
            optimizer, part = (self.optimizer, self.body), (self.second, self.head)
            for one, layer in (optimizer, part)[: self.steps]:
                one.apply([keras.ops.zeros((1, 1))], layer.trainable_variables)
            return {"loss": keras.ops.zeros(())}

    model = NowAndThen()
    model.build((None, 1))
    model.compile(keras.optimizers.SGD(ETA_FIRST), run_eagerly=True)
    train(model, WeightDecay(0.5, optimizer="optimizer"), WeightDecay(0.5, optimizer="second"))
    np.testing.assert_allclose(kernels(model), [(1 - 0.5 * 0.5) ** 2, 1 - 0.25 * 0.5])


@pytest.mark.parametrize("private", [True, False])
def test_the_place_of_an_optimizer_that_was_passed_is_followed(private: bool) -> None:
    """Another one where the model held it decays at its own rate; moved, the first one does."""
    model = adversarial(run_eagerly=BACKEND == "tensorflow")
    name = "_hidden" if private else "second"
    if private:
        object.__setattr__(model, name, model.second)
    swapped = keras.optimizers.SGD(1.0)
    swapped.build(model.head.trainable_variables)
    decay = WeightDecay(0.5, optimizer=model.second)

    class Swap(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                model.second = swapped
                if private:
                    object.__setattr__(model, name, swapped)

    history = model.fit(ZEROS, batch_size=2, epochs=2, verbose=0, callbacks=[decay, Swap()]).history
    np.testing.assert_allclose(kernels(model)[1], (1 - 0.25 * 0.5) ** 2 * (1 - 1.0 * 0.5) ** 2)
    assert history["decay_per_step"] == [0.125, 0.5]


def test_an_optimizer_that_takes_over_in_a_later_epoch_is_an_error() -> None:
    """Where steps run in Python, the second epoch may update by an optimizer without decay."""
    if BACKEND == "jax":
        pytest.skip("on JAX the step of this test is traced")

    class TakesOver(Adversarial):
        takes_over = False

        def train_step(self, *arguments: Any) -> Any:
            optimizer = self.second if self.takes_over else self.optimizer
            optimizer.apply([keras.ops.zeros((1, 1))] * 2, self.trainable_variables)
            return {"loss": keras.ops.zeros(())}

    model = TakesOver(name="gan")
    model.build((None, 1))
    model.compile(keras.optimizers.SGD(ETA_FIRST), run_eagerly=True)
    change = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: setattr(model, "takes_over", epoch == 1)
    )
    with pytest.raises(RuntimeError, match=r"gan/body/kernel, gan/head/kernel, which `second`"):
        model.fit(ZEROS, batch_size=2, epochs=2, verbose=0, callbacks=[change, WeightDecay(0.5)])
    np.testing.assert_allclose(kernels(model), [(1 - 0.5 * 0.5) ** 2] * 2)


def test_a_decay_of_another_optimizer_that_updates_the_same_variable_is_an_error() -> None:
    """Both step the body, and the second decays by itself: decay twice."""
    if BACKEND == "jax":
        pytest.skip("the step of this test is not that of JAX")

    class Both(Adversarial):
        def train_step(self, *arguments: Any) -> Any:
            for optimizer in (self.optimizer, self.second):
                optimizer.apply([keras.ops.zeros((1, 1))], self.body.trainable_variables)
            return {"loss": keras.ops.zeros(())}

    def made(**arguments: Any) -> Any:
        model = Both(name="gan")
        model.build((None, 1))
        model.compile(keras.optimizers.SGD(ETA_FIRST), run_eagerly=True)
        model.second = keras.optimizers.SGD(ETA_SECOND, **arguments)
        return model

    model = made()
    train(model, WeightDecay(0.5, include="*body*"))
    np.testing.assert_allclose(kernels(model), [(1 - 0.5 * 0.5) ** 2, 1.0])
    match = r"SGD\(weight_decay=0.1\), the model's `second`, which updates gan/body/kernel too"
    with pytest.raises(ValueError, match=match):
        train(made(weight_decay=0.1), WeightDecay(0.5, include="*body*"))
