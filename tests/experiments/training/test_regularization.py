"""Methods of regularization from a config: lambda by pattern and over time, own L2, arguments."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from l2keras import HalfL2
from l2keras_experiments.config.schema import Config, ConfigError, RegularizationConfig
from l2keras_experiments.training.regularization import build_method, check_method


def config_of(**keys: Any) -> Config:
    config = Config()
    config.regularization = RegularizationConfig(**{"name": "decoupled", "lam": 0.5, **keys})
    return config


def test_lambda_is_scaled_by_pattern_and_follows_a_schedule() -> None:
    """cosine: lam * (1 + cos(pi * s / T)) / 2, so half of it at s = T / 2."""
    config = config_of(scale={"*/output/kernel": 0.1, "*": 1.0}, schedule="cosine")
    [decay] = build_method(config, num_steps=8).callbacks
    assert list(decay.lam) == ["*/output/kernel", "*"]
    at = {pattern: [float(lam(step)) for step in (0, 4, 8)] for pattern, lam in decay.lam.items()}
    assert at["*"] == pytest.approx([0.5, 0.25, 0.0], abs=1e-7)
    assert at["*/output/kernel"] == pytest.approx([0.05, 0.025, 0.0], abs=1e-8)


def test_a_schedule_of_lambda_counts_updates() -> None:
    """Two batches are an update, so that the schedule of 8 batches has 4 steps."""
    config = config_of(schedule="linear")
    config.training.gradient_accumulation_steps = 2
    [decay] = build_method(config, num_steps=8).callbacks
    assert [float(decay.lam(step)) for step in (0, 2, 4)] == pytest.approx([0.5, 0.25, 0.0])


def test_all_variables_or_some_of_them() -> None:
    """decay_all would overrule `include`, so both are a mistake."""
    message = r"decay_all=true with regularization\.include=\*kernel\. Leave one"
    with pytest.raises(ConfigError, match=message):
        check_method(config_of(decay_all=True, include="*kernel").regularization)
    check_method(config_of(decay_all=True, exclude="*first*").regularization)


def small() -> Any:
    """A model with an L2 of its own on one of two kernels."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.25), name="first"),
            layers.Dense(1, name="second"),
        ]
    )


@pytest.mark.parametrize(
    ("keys", "regularizers"),
    [
        ({"name": "half_l2"}, [HalfL2, HalfL2]),
        ({"name": "half_l2", "own_l2": "keep"}, [keras.regularizers.L2, HalfL2]),
        ({"name": "half_l2", "include": "*first*"}, [HalfL2, None]),
        ({"name": "half_l2", "exclude": ["*first*"]}, [None, HalfL2]),
        ({"name": "none"}, [None, None]),
        ({"name": "none", "own_l2": "keep"}, [keras.regularizers.L2, None]),
        ({"name": "decoupled"}, [None, None]),
    ],
)
def test_the_l2_of_a_model_is_replaced_or_kept(
    keys: dict[str, Any], regularizers: list[Any]
) -> None:
    """What is taken off is not in the saved config either."""
    model = small()
    build_method(config_of(**keys)).attach(model)
    kernels = [layer.kernel for layer in model.layers]
    assert [kernel.regularizer and type(kernel.regularizer) for kernel in kernels] == regularizers
    configs = [layer.get_config()["kernel_regularizer"] for layer in model.layers]
    assert [config is None for config in configs] == [one is None for one in regularizers]


def test_arguments_of_weight_decay_are_passed_on() -> None:
    config = config_of(include="*kernel", arguments={"cautious": True, "layer_decay": 0.5})
    [decay] = build_method(config).callbacks
    assert (decay.cautious, decay.layer_decay, decay.include) == (True, 0.5, "*kernel")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"arguments": {"cautios": True}}, "Did you mean cautious"),
        ({"arguments": {"coupling": "coupled"}}, "Choose the coupling by regularization=NAME"),
        ({"name": "half_l2", "schedule": "cosine"}, "need one of its couplings"),
        ({"name": "half_l2", "arguments": {"lazy": True}}, "regularization.lazy with"),
        ({"scale": {"*": -1.0}}, "must map patterns"),
        ({"scale": 2.0}, "must map patterns"),
        ({"include": 3}, "must be a pattern of variable paths"),
        ({"include": []}, "must be a pattern of variable paths"),
        ({"own_l2": "drop"}, "must be replace or keep"),
        ({"schedule": "cosin"}, "`regularization.schedule` must be one of constant"),
    ],
)
def test_what_cannot_be_is_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_method(config_of(**keys).regularization)
