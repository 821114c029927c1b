"""Every argument of everything public, with values that no argument expects."""

from __future__ import annotations

import inspect
import random

import keras
import pytest

import l2keras
from tests.support import factorial
from tests.support.junk import CALLS, JUNK, complaint, make_model, parameters

# They are not called by users: results, and the protocol of Keras' callbacks.
NOT_CALLED = {"AuditReport", "SweepResult", "UndefinedConversionError"}
CASES = [(name, parameter) for name in CALLS for parameter in parameters(name)]
SAMPLE = 10  # values for each argument of `sweep` in the fast tier: some of them build models


def _takes_arguments(function: object) -> bool:
    return callable(function) and set(inspect.signature(function).parameters) > {"self"}


def test_everything_public_that_takes_arguments_has_its_call() -> None:
    """All names of `__all__`, and the methods of its classes that are no hooks of Keras."""
    found = set()
    for name in l2keras.__all__:
        thing = getattr(l2keras, name)
        if name not in NOT_CALLED and inspect.signature(thing).parameters:
            found.add(name)
        for key, value in vars(thing).items() if inspect.isclass(thing) else ():
            if not key.startswith("_") and not hasattr(keras.callbacks.Callback, key):
                found |= {f"{name}.{key}"} if _takes_arguments(value) else set()
    assert found <= set(CALLS) | {"AuditReport.row"}


@pytest.mark.parametrize(("name", "parameter"), factorial.sample(CASES, 40))
def test_junk_is_answered_in_one_line(
    name: str, parameter: str, request: pytest.FixtureRequest
) -> None:
    """A value is taken, or one line says what was expected, what came and what to do."""
    names = list(JUNK)
    if name == "sweep" and not request.config.getoption("full"):
        names = random.Random(parameter).sample(names, SAMPLE)
    call, arguments = CALLS[name]()
    answers = {key: complaint(call, **{**arguments, parameter: JUNK[key]()}) for key in names}
    assert {key: answer for key, answer in answers.items() if answer} == {}


@pytest.mark.parametrize("parameter", factorial.sample(parameters("WeightDecay"), 6))
def test_junk_that_is_assigned_later_is_answered_in_one_line(parameter: str) -> None:
    """An attribute of a WeightDecay that is set after its construction is checked in its use."""
    model = make_model()

    def use(value: object) -> None:
        callback = l2keras.WeightDecay(0.1)
        setattr(callback, parameter, value)
        l2keras.audit(model, [callback])  # a finding, at most
        with callback.in_step(model):
            pass

    answers = {key: complaint(use, value=make()) for key, make in JUNK.items()}
    assert {key: answer for key, answer in answers.items() if answer} == {}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="AutoGraph is TensorFlow's")
def test_a_traced_function_may_be_the_first_to_name_the_library(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Inside a tf.function AutoGraph warns of nothing, and the values are right."""
    import tensorflow as tf

    model = make_model()
    model.layers[0].kernel.assign([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    l2keras.attach(model, l2keras.HalfL2(0.5))

    @tf.function
    def traced() -> tuple[tf.Tensor, tf.Tensor]:
        from l2keras import HalfL2, model_penalty

        return HalfL2(lam=0.1)(model.layers[0].kernel), model_penalty(model)

    with caplog.at_level("WARNING", logger="tensorflow"):
        one, other = traced()
    assert (round(float(one), 6), float(other)) == (0.25, 1.25)  # of the sum of squares, 5
    assert caplog.records == []
