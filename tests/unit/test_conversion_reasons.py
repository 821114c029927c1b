"""What `.why` says of an exact result: which things would break equality, and which cannot."""

from __future__ import annotations

from typing import Any

import pytest

from l2keras import convert


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("torch.SGD", "keras.L2", ["momentum and a schedule", "inside the velocity", "clipping"]),
        ("mxnet.SGD", "half_l2", ["half_l2 is clipped with g, mxnet.SGD is not", "_gamma"]),
        ("torch.AdamW", "keras.weight_decay", ["no momentum and no moment", "biases"]),
        ("keras.L2", "torch.Adam", ["g + lam*W", "lam = 2*c"]),
    ],
)
def test_what_would_break_equality_is_said(source: str, target: str, words: list[str]) -> None:
    """An exact result names momentum, moments, clipping and schedules where they matter."""
    why = convert(0.1, source, target).why
    assert [word for word in words if word not in why] == []


@pytest.mark.parametrize(
    ("source", "target", "optimizer", "said"),
    [
        ("torch.AdamW", "keras.weight_decay", None, True),
        ("half_l2", "torch.Adam", None, True),
        ("optax.add_decayed_weights", "keras.L2", "RMSprop", True),
        ("torch.SGD", "keras.L2", None, False),
        ("torch.SGD", "keras.L2", "sgd", False),
        ("fastai.l2_reg", "keras.L2", "momentum", False),
        ("optax.add_decayed_weights", "keras.L2", "lion", False),  # it has none
    ],
)
def test_epsilon_is_to_be_matched(
    source: str, target: str, optimizer: str | None, said: bool
) -> None:
    """Where the optimizer has an epsilon: frameworks differ in it, the result stays exact."""
    result = convert(0.1, source, target, optimizer=optimizer)
    assert result.exact
    assert ("Epsilon is to be matched" in result.why) == said


def test_a_stated_rate_or_optimizer_silences_what_cannot_happen() -> None:
    """At a constant rate, or without momentum, nothing is said of velocities."""
    cases: list[dict[str, Any]] = [{"learning_rate": 0.1}, {"optimizer": "sgd"}]
    for given in [*cases, {"optimizer": "adam"}]:
        assert "velocity" not in convert(0.1, "paddle.L2Decay", "keras.L2", **given).why
