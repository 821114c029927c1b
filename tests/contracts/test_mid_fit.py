"""What changes in the middle of a `fit` is followed from the next step on, or is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import WeightDecay
from l2keras._keras import optimizers
from tests.support.models import (
    BACKEND,
    dense_model,
    fit_zeros,
    kernel,
    mse,
    relative_distance,
    to_numpy,
)

ETA, LAM = 0.5, 0.5
FACTOR = 1 - ETA * LAM

pytestmark = pytest.mark.usefixtures("float64")


def compiled(eta: float = ETA) -> Any:
    model = dense_model()
    model.compile(keras.optimizers.SGD(eta), mse)
    return model


def eager(eta: float = ETA) -> Any:
    """The same, whose step is not traced where that is not what a test is about."""
    model = compiled(eta)
    model.run_eagerly = BACKEND == "tensorflow"
    return model


def second_epoch(change: Callable[[Any], Any]) -> Any:
    """A callback that changes the model when the second epoch begins."""

    class Change(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                change(self.model)

    return Change()


def other_optimizer(model: Any) -> Any:
    optimizer = keras.optimizers.SGD(ETA / 2)
    optimizer.build(model.trainable_variables)
    return optimizer


def compile_with_force(model: Any) -> None:
    model.compile(other_optimizer(model), mse)
    model.make_train_function(force=True)


def compile_without(model: Any) -> None:
    model.compile(other_optimizer(model), mse)
    model.make_train_function()


def swap_the_optimizer(model: Any) -> None:
    model.optimizer = other_optimizer(model)


def swap_for_one_not_built(model: Any) -> None:
    model.optimizer = keras.optimizers.SGD(ETA / 2)


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (compile_with_force, True),
        (compile_with_force, False),
        (compile_without, True),
        (swap_the_optimizer, False),
        (swap_for_one_not_built, True),
    ],
)
def test_another_optimizer_decays_at_its_own_rate(
    change: Callable[[Any], None], first: bool
) -> None:
    """One epoch at the rate of the first optimizer, one at that of the second."""
    model, decay = compiled(), WeightDecay(LAM)
    before = kernel(model)
    callbacks = [second_epoch(change), decay]
    logs = fit_zeros(model, 2, callbacks if first else callbacks[::-1], epochs=2)
    expected = before * FACTOR**2 * (1 - ETA / 2 * LAM) ** 2
    assert relative_distance(kernel(model), expected) < 1e-12
    assert logs["decay_per_step"] == [0.25, 0.125]
    before = kernel(model)
    fit_zeros(model, 1)
    assert relative_distance(kernel(model), before) == 0.0


def test_another_optimizer_with_a_decay_of_its_own_is_refused() -> None:
    """The checks of the beginning hold for an optimizer that comes later, too."""

    def change(model: Any) -> None:
        model.compile(keras.optimizers.AdamW(0.1), mse)
        model.make_train_function(force=True)

    with pytest.raises(ValueError, match="applied twice"):
        fit_zeros(compiled(), 1, [WeightDecay(LAM), second_epoch(change)], epochs=2)


@pytest.mark.parametrize(
    ("name", "value", "factor"),
    [
        ("lam", 1.0, 1 - ETA),
        ("coupling", "independent", 1 - LAM),
        ("include", lambda variable: variable.path.endswith("kernel"), FACTOR),
        ("layer_decay", 0.5, FACTOR),  # of one layer: the last has lam itself
    ],
)
def test_an_argument_that_is_set_counts_from_the_next_step(
    name: str, value: Any, factor: float
) -> None:
    """Setting an argument on the callback in mid-fit is followed."""
    model, decay = compiled(), WeightDecay(LAM)
    before = kernel(model)
    change = second_epoch(lambda model: setattr(decay, name, value))
    fit_zeros(model, 1, [decay, change], epochs=2)
    assert relative_distance(kernel(model), before * FACTOR * factor) < 1e-12


def before_batch(number: int, change: Callable[[Any], Any]) -> Any:
    """A callback that changes the model right before one of the steps of an epoch."""

    class Change(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if batch == number:
                change(self.model)

    return Change()


def set_a_schedule(model: Any) -> None:
    model.optimizer.learning_rate = keras.optimizers.schedules.ExponentialDecay(ETA / 2, 10, 1.0)


LATE: dict[str, tuple[Callable[[Any, Any], None], float]] = {
    "lam": (lambda model, decay: setattr(decay, "lam", 1.0), 1 - ETA),
    "coupling": (lambda model, decay: setattr(decay, "coupling", "independent"), 1 - LAM),
    "optimizer": (lambda model, decay: swap_for_one_not_built(model), 1 - ETA / 2 * LAM),
    "schedule": (lambda model, decay: set_a_schedule(model), 1 - ETA / 2 * LAM),
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("what", LATE)
def test_what_is_set_right_before_a_step_counts_in_it(what: str, number: int, first: bool) -> None:
    """In `on_train_batch_begin`, of a callback before or after, in the middle of an epoch too."""
    set_it, later = LATE[what]
    model, decay = eager(), WeightDecay(LAM)
    before = kernel(model)
    change = before_batch(number, lambda model: set_it(model, decay))
    callbacks = [change, decay] if first else [decay, change]
    logs = fit_zeros(model, 3, callbacks)
    expected = before * FACTOR**number * later ** (3 - number)
    assert relative_distance(kernel(model), expected) < 1e-6  # Keras keeps the rate in float32
    assert logs["decay_per_step"] == pytest.approx([1 - later], rel=1e-6)
    updates = 3 - number if what == "optimizer" else 3
    assert int(to_numpy(model.optimizer.iterations)) == updates


def test_a_schedule_of_the_learning_rate_that_is_set_or_changed_counts() -> None:
    """The step goes on with the rate of the new schedule, and of its new setting; logs say so."""
    model, decay = compiled(), WeightDecay(LAM)
    before = kernel(model)

    class Change(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                set_a_schedule(self.model)
            if epoch == 2:
                source(self.model).initial_learning_rate = ETA / 4

    def source(model: Any) -> Any:
        return optimizers.learning_rate_source(model.optimizer)

    logs = fit_zeros(model, 1, [decay, Change()], epochs=3)
    expected = before * FACTOR * (1 - ETA / 2 * LAM) * (1 - ETA / 4 * LAM)
    assert relative_distance(kernel(model), expected) < 1e-6
    assert logs["decay_per_step"] == pytest.approx([0.25, 0.125, 0.0625])
    before = kernel(model)
    source(model).initial_learning_rate = ETA  # between two fits
    fit_zeros(model, 1, [decay])
    assert relative_distance(kernel(model), before * FACTOR) < 1e-6


@pytest.mark.parametrize("name", ["initial_learning_rate", "decay_rate"])
def test_a_schedule_of_lam_that_is_changed_counts(name: str) -> None:
    """Its attributes are part of the arguments: the next step, and the next fit, have them."""
    lam = keras.optimizers.schedules.ExponentialDecay(LAM, 1, 1.0)
    model, decay = compiled(), WeightDecay(lam)
    before = kernel(model)
    change = second_epoch(lambda model: setattr(lam, name, 0.5 * getattr(lam, name)))
    logs = fit_zeros(model, 1, [decay, change], epochs=2)
    assert logs["weight_decay"] == pytest.approx([LAM, LAM / 2])
    expected = before * FACTOR * (1 - ETA * LAM / 2)
    assert relative_distance(kernel(model), expected) < 1e-6
    before = kernel(model)
    lam.initial_learning_rate, lam.decay_rate = 1.0, 1.0
    fit_zeros(model, 1, [decay])
    assert relative_distance(kernel(model), before * (1 - ETA)) < 1e-6


@pytest.mark.skipif(BACKEND == "torch", reason="torch does not trace the step")
def test_a_rate_that_a_lam_reads_is_asked_at_the_step_of_now() -> None:
    """0.5 * box ** step is 0.5 at the first step, whatever is in the box."""
    box = [1.0]
    change = second_epoch(lambda model: box.__setitem__(0, 0.5))
    with pytest.raises(ValueError, match=r"of the step alone.* gives 0.125 now and 0.5 in the"):
        fit_zeros(compiled(), 1, [WeightDecay(lambda step: 0.5 * box[0] ** step), change], epochs=2)


def test_a_lam_that_asks_for_the_step_in_python() -> None:
    """`if step < 2` works where steps run in Python, and is an error with the remedy elsewhere."""
    model, decay = compiled(), WeightDecay(lambda step: 1.0 if step < 1 else LAM)
    before = kernel(model)
    if BACKEND != "torch":
        with pytest.raises(
            ValueError, match=r"which raised \w+Error.* Write keras.ops.where\("
        ) as e:
            fit_zeros(model, 2, [decay])
        assert "\n" not in str(e.value)
        assert relative_distance(kernel(model), before) == 0.0
        model.run_eagerly = True
    if BACKEND != "jax":  # Keras compiles there in any case
        fit_zeros(model, 2, [decay])
        assert relative_distance(kernel(model), before * (1 - ETA) * FACTOR) < 1e-12


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("run_eagerly", [True, False])
def test_a_decay_that_the_optimizer_gets_in_mid_fit_is_an_error(
    run_eagerly: bool, late: bool
) -> None:
    """Eager steps would decay twice at once, compiled ones in the next fit."""
    model = compiled()
    model.run_eagerly = run_eagerly and BACKEND == "tensorflow"
    before = kernel(model)

    def give_decay(model: Any) -> None:
        model.optimizer.weight_decay = 0.1

    change = before_batch(1, give_decay) if late else second_epoch(give_decay)
    with pytest.raises(ValueError, match=r"applied twice. Received: SGD\(weight_decay=0.1\)"):
        fit_zeros(model, 2 if late else 1, [WeightDecay(LAM), change], epochs=2)
    done = 2 if late and BACKEND == "jax" else 1  # there the step of before goes on till the check
    assert relative_distance(kernel(model), before * FACTOR**done) < 1e-12


@pytest.mark.parametrize("by_glob", [True, False])
def test_an_array_that_is_changed_in_place_counts_too(by_glob: bool) -> None:
    """A lam of rank 0 in an array that may change is followed."""
    model, lam = eager(), np.array(LAM)
    before = kernel(model)
    change = second_epoch(lambda model: lam.fill(1.0))
    given: Any = {"*": lam} if by_glob else lam
    fit_zeros(model, 1, [WeightDecay(given), change], epochs=2)
    assert relative_distance(kernel(model), before * FACTOR * (1 - ETA)) < 1e-12


READ = {  # the backends that follow it in mid-fit
    "variable": {"tensorflow", "torch"},
    "python": {"torch"},
    "optimizer": {"jax", "tensorflow", "torch"},
}


@pytest.mark.parametrize("what", READ)
def test_a_lam_that_reads_more_than_the_step_follows_or_is_an_error(what: str) -> None:
    """In mid-fit another value counts, or an error says that it does not; the next fit follows."""
    model, box = compiled(), [LAM]
    is_rate = what == "optimizer"
    variable = model.optimizer.learning_rate if is_rate else keras.Variable(LAM, trainable=False)

    def lam(step: Any) -> Any:
        return box[0] if what == "python" else variable * 1.0

    def change(model: Any) -> None:
        box[0] = 0.25
        variable.assign(0.25)

    later = 1 - (0.25 if is_rate else ETA) * 0.25
    decay, before = WeightDecay(lam), kernel(model)
    if BACKEND in READ[what]:
        logs = fit_zeros(model, 1, [decay, second_epoch(change)], epochs=2)
        assert logs["weight_decay"] == [LAM, 0.25]
        assert relative_distance(kernel(model), before * FACTOR * later) < 1e-12
    else:
        with pytest.raises(ValueError, match=r"of the step alone.* gives 0.25 now and 0.5 in the"):
            fit_zeros(model, 1, [decay, second_epoch(change)], epochs=2)
        assert relative_distance(kernel(model), before * FACTOR**2) < 1e-12
    before = kernel(model)
    fit_zeros(model, 1, [decay])
    assert relative_distance(kernel(model), before * later) < 1e-12


def codes_of(report: Any) -> set[str]:
    return {code for code in report.codes() if code.startswith("decay-")}


@pytest.mark.parametrize("rates", [[0.001, 0.02, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]])
def test_decay_that_becomes_too_strong_is_logged(
    rates: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """50 * 0.02 = 1 turns signs, 50 * 0.1 = 5 diverges: by a warm-up, or by another lam."""
    is_warm_up = rates[0] < rates[-1]
    model, decay = eager(rates[0]), WeightDecay(50.0 if is_warm_up else 0.1)
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(codes_of(decay.report))
    )
    warm_up = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rates[epoch])
    change = second_epoch(lambda model: setattr(decay, "lam", 50.0))
    fit_zeros(model, 1, [decay, warm_up if is_warm_up else change, watch], epochs=4)
    turned = {"decay-turns-signs" if is_warm_up else "decay-diverges"}
    assert seen == [set(), turned, {"decay-diverges"}, {"decay-diverges"}]
    logged = [record.getMessage().split("[")[1].split("]")[0] for record in caplog.records]
    assert logged == ["decay-turns-signs"] * is_warm_up + ["decay-diverges"]


def test_the_report_follows_what_is_set_in_mid_fit() -> None:
    """Its rows have the lam that acts, and the peak that independent decay began with."""
    model, decay = eager(), WeightDecay(LAM, coupling="independent")
    slower = keras.callbacks.LearningRateScheduler(lambda epoch, rate: ETA / (epoch + 1))
    fit_zeros(model, 1, [decay, slower], epochs=2)
    report = decay.report
    assert report is not None
    assert report.rows[0].lam == LAM / ETA
    decay = WeightDecay(LAM)
    change = second_epoch(lambda model: setattr(decay, "lam", 0.25))
    fit_zeros(eager(), 1, [decay, change], epochs=2)
    report = decay.report
    assert report is not None
    assert [row.lam for row in report.rows if row.decayed] == [0.25]


def test_a_mapping_that_is_changed_in_place_counts_too() -> None:
    """So does another value in the mapping of lams."""
    model, lams = compiled(), {"*kernel": LAM}
    before = kernel(model)
    change = second_epoch(lambda model: lams.update({"*kernel": 1.0}))
    fit_zeros(model, 1, [WeightDecay(lams), change], epochs=2)
    assert relative_distance(kernel(model), before * FACTOR * (1 - ETA)) < 1e-12


def test_a_wrong_argument_in_mid_fit_is_refused() -> None:
    """What construction refuses is refused when it is set."""
    decay = WeightDecay(LAM)
    change = second_epoch(lambda model: setattr(decay, "lam", -1.0))
    with pytest.raises(ValueError, match=r"lam=-1\.0"):
        fit_zeros(compiled(), 1, [decay, change], epochs=2)


@pytest.mark.parametrize("first", [True, False])
def test_a_rate_above_the_peak_of_independent_decay_is_an_error(first: bool) -> None:
    """A warm-up by a callback needs the peak; with it, lam * eta / peak is lost a step."""
    rates = [0.1, 0.2, 0.4]
    warm_up = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rates[epoch])

    def callbacks(decay: Any) -> list[Any]:
        return [warm_up, decay] if first else [decay, warm_up]

    model = compiled(0.01)
    with pytest.raises(ValueError, match=r"learning rate 0.1, above the 0.01.*peak_learning_rate="):
        fit_zeros(model, 1, callbacks(WeightDecay(LAM, coupling="independent")), epochs=3)
    model = compiled(0.01)
    before = kernel(model)
    decay = WeightDecay(LAM, coupling="independent", peak_learning_rate=0.4)
    fit_zeros(model, 1, callbacks(decay), epochs=3)
    expected = before * (1 - 0.125) * (1 - 0.25) * (1 - 0.5)
    assert relative_distance(kernel(model), expected) < 1e-6  # Keras keeps the rate in float32


@pytest.mark.parametrize(
    "lam",
    [
        lambda step: 0.1 - keras.optimizers.schedules.CosineDecay(0.1, 777)(step),
        lambda step: 0.1 - keras.optimizers.schedules.ExponentialDecay(0.1, 777, 0.9)(step),
        lambda step: 0.01 * (step / 7.0 - keras.ops.floor(step / 7.0)),
    ],
    ids=["cosine", "exponential", "saw-tooth"],
)
def test_what_rounding_does_to_a_function_of_the_step_is_no_change(lam: Any) -> None:
    """Where a warm-up begins and where a saw-tooth jumps, a compiled step rounds otherwise."""
    fit_zeros(compiled(), 1, [WeightDecay(lam)], epochs=23)


def test_a_block_for_a_part_acts_in_the_steps_of_the_whole() -> None:
    """in_step of a submodel decays where the model around it was compiled, and nowhere later."""
    part = keras.Sequential([keras.Input((3,)), dense_model().get_layer("dense")], name="part")
    model = keras.Sequential([keras.Input((3,)), part])
    model.compile(keras.optimizers.SGD(ETA), mse)
    zeros = np.zeros((1, 3)), np.zeros((1, 2))
    model.train_on_batch(*zeros)
    before = kernel(part)
    with WeightDecay(LAM).in_step(part, model.optimizer):
        model.train_on_batch(*zeros)
        fit_zeros(model, 1)
    assert relative_distance(kernel(part), before * FACTOR**2) < 1e-12
    before = kernel(part)
    model.train_on_batch(*zeros)
    fit_zeros(model, 1)
    assert relative_distance(kernel(part), before) == 0.0
