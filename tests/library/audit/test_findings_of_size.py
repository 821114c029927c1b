"""Findings about decay that is too strong, and what such decay does to weights."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from tests.support.models import compiled, dense_model, fit_zeros, kernel

SGD, HalfL2, WeightDecay = keras.optimizers.SGD, l2keras.HalfL2, l2keras.WeightDecay
WARM_UP = keras.optimizers.schedules.CosineDecay(0.0, 9, warmup_target=0.1, warmup_steps=5)
RISING = keras.optimizers.schedules.PolynomialDecay(0.0, 9, 25.0)
INDEPENDENT = {"coupling": "independent", "peak_learning_rate": 0.02}

TURNS, DIVERGES = "warning decay-turns-signs", "error decay-diverges"


def severity(model: Any, *callbacks: Any) -> str:
    """Severity and code of what the report finds about the size of decay; empty without."""
    found = [f"{f.severity} {f.code}" for f in l2keras.audit(model, callbacks).findings]
    return " ".join(line for line in found if line in (TURNS, DIVERGES))


# lam, coupling: at learning rate 0.1 a step leaves 1 - 0.1 * lam, independent 1 - lam, of W
CALLBACKS = [
    (9.0, "decoupled", 0.1, ""),
    (15.0, "decoupled", -0.5, TURNS),
    (20.0, "decoupled", -1.0, TURNS),
    (25.0, "decoupled", -1.5, DIVERGES),
    (15.0, "coupled", -0.5, TURNS),
    (25.0, "coupled", -1.5, DIVERGES),
    (0.9, "independent", 0.1, ""),
    (1.5, "independent", -0.5, TURNS),
    (2.5, "independent", -1.5, DIVERGES),
]


@pytest.mark.parametrize(("lam", "coupling", "factor", "expected"), CALLBACKS)
def test_lam_times_learning_rate_of_a_callback(
    lam: float, coupling: str, factor: float, expected: str
) -> None:
    """From 1 on the step turns the sign, above 2 the weights grow: as one step shows."""
    model = compiled(dense_model(), SGD(0.1), run_eagerly=True)
    start, decay = kernel(model), WeightDecay(lam, coupling=coupling)
    assert severity(model, decay) == expected
    fit_zeros(model, 1, [decay])
    np.testing.assert_allclose(kernel(model), factor * start, rtol=1e-5)


@pytest.mark.parametrize(
    ("momentum", "nesterov", "limit"),
    [
        (0.0, False, 2.0),
        (0.5, False, 3.0),  # 2 * (1 + 0.5)
        (0.9, False, 3.8),
        (0.5, True, 1.5),  # 2 * (1 + 0.5) / (1 + 2 * 0.5)
        (0.9, True, 3.8 / 2.8),
    ],
)
def test_a_penalty_under_momentum_diverges_above_its_limit(
    momentum: float, nesterov: bool, limit: float
) -> None:
    """Keras' own update of W by the gradient lam * W grows just above the limit, and not below."""
    for part, expected in ((0.98, TURNS), (1.02, DIVERGES)):
        lam = part * limit / 0.1
        optimizer = SGD(0.1, momentum=momentum, nesterov=nesterov)
        model = compiled(dense_model(regularizer=HalfL2(lam)), optimizer)
        assert severity(model) == expected
        velocity, weight, sizes = 0.0, 1.0, []
        for _ in range(600):  # keras/src/optimizers/sgd.py, update_step
            step = -0.1 * lam * weight
            velocity = momentum * velocity + step
            weight += momentum * velocity + step if nesterov else velocity
            sizes.append(abs(weight))
        grows = max(sizes[-50:]) > max(sizes[:50])
        assert grows == (expected == DIVERGES)


@pytest.mark.parametrize(
    ("optimizer", "regularizer", "callbacks", "expected"),
    [
        (SGD(0.1, weight_decay=25.0), None, (), DIVERGES),
        (keras.optimizers.AdamW(0.1, weight_decay=15.0), None, (), TURNS),
        (SGD(0.1, weight_decay=9.0), None, (), ""),
        (SGD(0.1), keras.regularizers.L2(7.5), (), TURNS),  # lam = 15
        (keras.optimizers.Adam(0.1), HalfL2(25.0), (), ""),  # Adam rescales the gradient
        (SGD(0.1, clipnorm=1.0), HalfL2(25.0), (), TURNS),  # clipping bounds the step
        (SGD(0.1), HalfL2(15.0), [(10.0, {})], DIVERGES),  # 0.1 * (15 + 10) > 2
        (SGD(0.1), None, [(0.5, INDEPENDENT)], DIVERGES),
        (SGD(0.1), None, [(15.0, {"cautious": True})], TURNS),
        (SGD(0.1), None, [(15.0, {"toward": "init"})], TURNS),
        (SGD(0.1), None, [(15.0, {"layer_decay": 0.5})], TURNS),  # the last layer has lam itself
        (keras.optimizers.Adam(0.1), None, [(15.0, {"stable": True})], ""),  # not known
        (SGD(0.1), None, [(15.0, {"include": "*bias"})], TURNS),
        (SGD(WARM_UP), HalfL2(25.0), (), DIVERGES),
        (SGD(WARM_UP), None, [(15.0, {"corrected": "*"})], TURNS),
        (SGD(0.1), None, [(RISING, {})], DIVERGES),
        (SGD(0.1), None, [(lambda step: 15.0, {})], TURNS),
        (None, HalfL2(25.0), (), ""),  # not compiled
    ],
)  # fmt: skip
def test_every_source_counts_at_the_largest_learning_rate(
    optimizer: Any, regularizer: Any, callbacks: Any, expected: str
) -> None:
    """Optimizer, regularizer and callback add up, each by what its update does with lam."""
    model = dense_model(use_bias=True, regularizer=regularizer)
    if optimizer is not None:
        model.compile(type(optimizer).from_config(optimizer.get_config()), "mse")
    assert severity(model, *(WeightDecay(lam, **given) for lam, given in callbacks)) == expected


def test_frozen_weights_are_not_too_strongly_decayed() -> None:
    """What no step reaches has no finding."""
    model = compiled(dense_model(regularizer=HalfL2(25.0)), SGD(0.1))
    model.trainable = False
    assert not severity(model)


def test_the_message_has_numbers_and_remedy() -> None:
    """It says what a step takes, the source, the weights, and by how much to divide lam."""
    model = compiled(dense_model(), SGD(0.1))
    [found] = l2keras.audit(model, [WeightDecay(25.0)]).findings
    assert found.message == (
        "At the largest learning rate a step takes 2.5 times the weights away, so that they grow "
        "without bound; by callback: 1 variable (sequential/dense/kernel)."
    )
    assert found.remedy.startswith("Divide lam by much more than 2.5;")


@pytest.mark.parametrize(
    ("regularizer", "lam", "code"), [("l2", 0.1, "decayed-twice"), (None, 25.0, "decay-diverges")]
)
def test_errors_are_logged_as_warnings_when_fit_begins(
    regularizer: Any, lam: float, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line at WARNING a fit, with the code and what to do; a warning stays in the report."""
    model = compiled(dense_model(regularizer=regularizer), SGD(0.1), run_eagerly=True)
    fit_zeros(model, 1, [WeightDecay(lam)], epochs=2)
    [record] = [r for r in caplog.records if r.name == "l2keras" and r.levelno >= logging.WARNING]
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert f"error [{code}] " in message
    assert "\n" not in message
    assert ("Keep one of them" in message) or ("Divide lam by" in message)
    caplog.clear()
    lost = compiled(dense_model(use_bias=True), SGD(0.1), run_eagerly=True)
    fit_zeros(lost, 1, [WeightDecay(0.1, include="*")])  # bias-decayed
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
