"""convert: the numbers by hand, what is exact, what is refused, and what a result can do."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import UndefinedConversionError, conventions, convert

SCHEDULE = keras.optimizers.schedules.CosineDecay(0.1, 100)
NAMES = [row.name for row in conventions()]
# value, source, target, arguments, expected: from the rules in the papers and files, by hand
EXACT: list[tuple[float, str, str, dict[str, Any], float]] = [
    (1e-4, "torch.SGD", "keras.L2", {}, 5e-5),
    (5e-5, "keras.L2", "torch.SGD", {}, 1e-4),
    (0.3, "keras.L2", "half_l2", {}, 0.6),
    (0.3, "tf.l2_loss", "half_l2", {}, 0.3),
    (0.3, "torch.Adam", "keras.L2", {}, 0.15),
    (0.3, "torch.Adam", "keras.L2", {"optimizer": "Adam"}, 0.15),
    (0.3, "torch.AdamW", "keras.weight_decay", {}, 0.3),
    (0.3, "optax.adamw", "timm.AdamW", {"learning_rate": SCHEDULE}, 0.3),
    (0.3, "torch.SGD", "keras.L2", {"learning_rate": SCHEDULE, "optimizer": "sgd"}, 0.15),
    (0.3, "mxnet.SGD", "keras.L2", {"learning_rate": SCHEDULE, "optimizer": "momentum"}, 0.15),
    (0.3, "torch.SGD", "keras.L2", {"learning_rate": 0.1, "optimizer": "momentum"}, 0.15),
    (0.3, "torch.SGD", "keras.weight_decay", {"optimizer": "sgd"}, 0.3),
    (0.3, "keras.L2", "WeightDecay", {"optimizer": "sgd", "learning_rate": SCHEDULE}, 0.6),
    (0.25, "tfa.AdamW", "keras.weight_decay", {"learning_rate": 0.5}, 0.5),
    (0.5, "keras.weight_decay", "tfa.AdamW", {"learning_rate": 0.5}, 0.25),
    (0.25, "tfa.SGDW", "keras.L2", {"learning_rate": 0.5, "optimizer": "sgd"}, 0.25),
    (0.25, "tfa.AdamW", "keras_adamw", {"num_steps": 16}, 1.0),
    (3.0, "keras_adamw", "torch.AdamW", {"learning_rate": 0.5, "num_steps": 100}, 0.6),
    (1e-5, "mosaicml.DecoupledAdamW", "torch.AdamW", {"learning_rate": 1e-3}, 1e-2),
    (1e-2, "torch.AdamW", "mosaicml.DecoupledAdamW", {"learning_rate": 1e-3}, 1e-5),
    (1e-5, "mosaicml.DecoupledAdamW", "tfa.AdamW", {"learning_rate": 1e-3}, 1e-5),
    (1e-5, "mosaicml.DecoupledAdamW", "WeightDecay.independent", {"learning_rate": SCHEDULE}, 1e-5),
    (2.0, "sklearn.Ridge", "half_l2", {"num_samples": 100}, 0.04),
    (2.0, "sklearn.Ridge", "keras.L2", {"num_samples": 100}, 0.02),
    (2.0, "sklearn.Ridge.half_mean", "half_l2", {"num_samples": 100}, 0.02),
    (2.0, "sklearn.Ridge.sum", "half_l2", {}, 4.0),
    (0.04, "half_l2", "sklearn.Ridge", {"num_samples": 100}, 2.0),
    (0.5, "sklearn.LogisticRegression", "half_l2", {"num_samples": 100}, 0.02),
    (0.02, "half_l2", "sklearn.LogisticRegression", {"num_samples": 100}, 0.5),
    (0.5, "sklearn.MLPClassifier", "half_l2", {"batch_size": 50}, 0.01),
    (1.0, "xgboost.lambda", "half_l2", {"num_samples": 1e2}, 0.01),
    (0.1, "xgboost.lambda.gblinear", "keras.L2", {}, 0.05),
    (0.0, "torch.Adam", "keras.weight_decay", {}, 0.0),
    (math.inf, "sklearn.LogisticRegression", "half_l2", {}, 0.0),
    (0.0, "half_l2", "sklearn.LogisticRegression", {}, math.inf),
]

# the value is defined, the equality is not; what .why must name
INEXACT: list[tuple[float, str, str, dict[str, Any], float, str]] = [
    (0.3, "torch.SGD", "torch.Adam", {}, 0.3, "optimizers are not (adam and sgd)"),
    (0.3, "torch.SGD", "keras.L2", {"optimizer": "adam"}, 0.15, "optimizers are not"),
    (0.3, "tfa.SGDW", "tfa.AdamW", {}, 0.3, "optimizers are not"),
    (0.3, "torch.SGD", "keras.weight_decay", {}, 0.3, 'optimizer="sgd"'),
    (0.3, "keras.L2", "WeightDecay", {"optimizer": "momentum"}, 0.6, "1/(1 - mu)"),
    (0.3, "keras.L2", "WeightDecay", {"optimizer": "nesterov"}, 0.6, "nesterov"),
    (
        *(0.3, "torch.SGD", "keras.L2", {"optimizer": "momentum", "learning_rate": SCHEDULE}, 0.15),
        "inside the velocity",
    ),
    (0.3, "torch.SGD", "keras.L2", {"learning_rate": SCHEDULE}, 0.15, 'optimizer="sgd"'),
    (1e-5, "mosaicml.DecoupledAdamW", "tfa.AdamW", {}, 1e-5, "does not follow a schedule"),
]

# source, target, arguments, what the message must name
UNDEFINED: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("torch.Adam", "keras.weight_decay", {}, ["coupled (torch.Adam)", "moments", "half_l2"]),
    ("torch.Adam", "keras.weight_decay", {"optimizer": "sgd"}, ["under adam"]),
    ("half_l2", "torch.AdamW", {}, ["decoupled (torch.AdamW)", "Defined"]),
    ("tfa.AdamW", "half_l2", {"learning_rate": 0.1}, ["keras.weight_decay"]),
    ("half_l2", "keras.weight_decay", {"optimizer": "lion"}, ["under lion"]),
    ("half_l2", "keras.weight_decay", {"optimizer": "RMSprop"}, ["under rmsprop"]),
    ("tfa.AdamW", "keras.weight_decay", {}, ["no `learning_rate`", "c/eta"]),
    ("tfa.SGDW", "half_l2", {"optimizer": "sgd"}, ["no `learning_rate`"]),
    ("tfa.AdamW", "keras.weight_decay", {"learning_rate": SCHEDULE}, ["CosineDecay", "constant"]),
    ("tfa.AdamW", "keras.weight_decay", {"learning_rate": [0.1, 0.01]}, ["[0.1, 0.01]"]),
    ("tfa.AdamW", "keras.weight_decay", {"learning_rate": np.ones(3)}, ["constant"]),
    ("tfa.AdamW", "mosaicml.DecoupledAdamW", {"learning_rate": lambda step: 0.1}, ["constant"]),
    ("mosaicml.DecoupledAdamW", "torch.AdamW", {}, ["constructed with"]),
    ("torch.AdamW", "mosaicml.DecoupledAdamW", {"learning_rate": SCHEDULE}, ["eta_init", "float"]),
    ("keras_adamw", "torch.AdamW", {"learning_rate": 0.1}, ["num_steps=1000"]),
    ("sklearn.Ridge", "half_l2", {}, ["num_samples=60000", "2*c/num_samples"]),
    ("half_l2", "sklearn.LogisticRegression", {}, ["num_samples"]),
    ("sklearn.MLPClassifier", "half_l2", {"num_samples": 10}, ["batch_size=32"]),
    ("xgboost.lambda", "half_l2", {}, ["num_samples"]),
]

WRONG: list[tuple[Any, Any, str, dict[str, Any], type[Exception], str]] = [
    (-1.0, "torch.SGD", "keras.L2", {}, ValueError, "non-negative"),
    (math.nan, "torch.SGD", "keras.L2", {}, ValueError, "non-negative"),
    (math.inf, "torch.SGD", "keras.L2", {}, ValueError, "non-negative"),
    (True, "torch.SGD", "keras.L2", {}, TypeError, "of type bool"),
    ("1e-4", "torch.SGD", "keras.L2", {}, TypeError, "of type str"),
    (0.0, "sklearn.LogisticRegression", "half_l2", {"num_samples": 9}, ValueError, "above zero"),
    (1e308, "keras.L2", "half_l2", {}, ValueError, "makes it inf. Pass a value nearer to 1"),
    (5e-324, "half_l2", "keras.L2", {}, ValueError, "nearer to 1"),
    (
        *(5e-324, "sklearn.Ridge", "sklearn.LogisticRegression", {"num_samples": 100}),
        *(ValueError, "makes it 0.0. Pass a value nearer to 1"),
    ),
    (
        *(1e308, "sklearn.LogisticRegression", "half_l2", {"num_samples": 100}),
        *(ValueError, "makes it 0.0"),
    ),
    (1e-300, "tfa.SGDW", "torch.AdamW", {"learning_rate": 1e10}, ValueError, "nearer to 1"),
    (1.0, "sklearn.Ridge", "half_l2", {"num_samples": 0}, ValueError, "num_samples"),
    (1.0, "sklearn.Ridge", "half_l2", {"num_samples": 1.5}, ValueError, "whole number"),
    (1.0, "sklearn.Ridge", "half_l2", {"num_samples": True}, TypeError, "num_samples"),
    (1.0, "tfa.SGDW", "WeightDecay", {"learning_rate": 0.0}, ValueError, "learning_rate"),
    (1.0, "tfa.SGDW", "WeightDecay", {"learning_rate": "0.1"}, TypeError, "learning_rate"),
    (1.0, "tfa.SGDW", "WeightDecay", {"learning_rate": True}, TypeError, "learning_rate"),
    (1.0, "torch.SDG", "half_l2", {}, ValueError, 'Did you mean "torch.SGD"'),
    (1.0, "torch.sgd", "half_l2", {}, ValueError, 'Did you mean "torch.SGD"'),
    (1.0, "torch.SGD", "keras.l2", {}, ValueError, '`target`.*Did you mean "keras.L2"'),
    (1.0, "zzz", "half_l2", {}, ValueError, "'zzz'. l2keras.conventions"),
    (1.0, "torch.SGD", "half_l2", {"optimizer": "zzz"}, ValueError, "'zzz'. Pass one of these"),
    (1.0, None, "keras.L2", {}, ValueError, "`source` must be the name"),
    (1.0, "torch.SGD", "half_l2", {"optimizer": "adan"}, ValueError, 'Did you mean "adam"'),
    (1.0, "torch.SGD", "half_l2", {"optimizer": 3}, ValueError, "`optimizer` must be one of"),
]


def case_id(value: Any) -> str | None:
    """Names of systems make the ids of the cases."""
    return value if isinstance(value, str) and value in NAMES else ""


@pytest.mark.parametrize(("value", "source", "target", "given", "expected"), EXACT, ids=case_id)
def test_exact_conversions(
    value: float, source: str, target: str, given: dict[str, Any], expected: float
) -> None:
    """The value is what the two update rules give by hand, and is a float."""
    result = convert(value, source, target, **given)
    assert result.exact is True
    assert isinstance(result, float)
    assert result == pytest.approx(expected, rel=1e-15, abs=0)
    assert type(result.value) is float


@pytest.mark.parametrize(
    ("value", "source", "target", "given", "expected", "reason"), INEXACT, ids=case_id
)
def test_inexact_conversions(
    value: float, source: str, target: str, given: dict[str, Any], expected: float, reason: str
) -> None:
    """The value is there, and .why names what parts the two."""
    result = convert(value, source, target, **given)
    assert result.exact is False
    assert result.value == pytest.approx(expected, rel=1e-15)
    assert reason in result.why


@pytest.mark.parametrize(("source", "target", "given", "words"), UNDEFINED, ids=case_id)
def test_undefined_conversions(
    source: str, target: str, given: dict[str, Any], words: list[str]
) -> None:
    """They raise, say why, and name what would be defined or what is missing."""
    with pytest.raises(UndefinedConversionError) as caught:
        convert(0.1, source, target, **given)
    message = str(caught.value)
    assert "Received: " in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("value", "source", "target", "given", "error", "words"), WRONG, ids=case_id
)
def test_wrong_arguments(
    value: Any, source: str, target: str, given: dict[str, Any], error: Any, words: str
) -> None:
    """A mistake is told by the argument that it is in, with the remedy."""
    with pytest.raises(error, match=words) as caught:
        convert(value, source, target, **given)
    assert not isinstance(caught.value, UndefinedConversionError)


@pytest.mark.parametrize("source", NAMES)
def test_every_pair_comes_back_or_is_refused(source: str) -> None:
    """There and back is the identity, and a refusal in one direction is one in the other."""
    counts: dict[str, Any] = {"num_samples": 7, "batch_size": 3, "num_steps": 11}
    counts["learning_rate"] = 0.3
    for target in NAMES:
        try:
            there = convert(0.7, source, target, **counts)
        except UndefinedConversionError:
            with pytest.raises(UndefinedConversionError):
                convert(0.7, target, source, **counts)
            continue
        back = convert(there.value, target, source, **counts)
        assert back.value == pytest.approx(0.7, rel=1e-14)
        assert back.exact == there.exact


def test_a_rate_may_be_what_an_optimizer_has() -> None:
    """A tensor or a variable of rank 0 is a rate, not a schedule."""
    for rate in (keras.optimizers.SGD(0.5).learning_rate, keras.ops.convert_to_tensor(0.5)):
        assert convert(0.25, "tfa.AdamW", "torch.AdamW", learning_rate=rate).value == 0.5


def test_to_itself_it_is_the_same_number() -> None:
    """Without a rounding error, exact, and needing neither rate nor optimizer."""
    given: dict[str, Any] = {"num_samples": 49, "batch_size": 3, "num_steps": 11}
    for name in NAMES:
        result = convert(0.1, name, name, **given)
        assert (result.value, result.exact) == (0.1, True)
