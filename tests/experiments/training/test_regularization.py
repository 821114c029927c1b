"""Methods of regularization from a config: lambda by pattern and over time, own L2, arguments."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import HalfL2, WeightDecay
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


@pytest.mark.parametrize("name", ["half_l2", "decoupled", "optimizer_weight_decay"])
def test_lambda_acts_on_what_has_no_l2_of_its_own(name: str) -> None:
    """`keep` means the same for each method: never an own L2 and lambda on one variable."""
    method = build_method(config_of(name=name, own_l2="keep", exclude="*second/bias"))
    model = small()
    method.attach(model)
    assert method.selected(model) == [model.get_layer("second").kernel]
    for decay in method.callbacks:
        assert decay.exclude == ["*second/bias", model.get_layer("first").kernel.path]


@pytest.mark.parametrize("name", ["half_l2", "decoupled", "optimizer_weight_decay"])
def test_an_l2_on_every_variable_leaves_nothing_for_lambda(name: str) -> None:
    keys = {"name": name, "include": "*first/kernel", "own_l2": "keep"}
    with pytest.raises(ConfigError, match=r"must leave a variable for lambda.*first/kernel"):
        build_method(config_of(**keys)).attach(small())
    build_method(config_of(**keys | {"own_l2": "replace"})).attach(small())
    build_method(config_of(**keys | {"name": "none"})).attach(small())


def test_groups_decay_at_once_each_in_its_own_way() -> None:
    """Without a gradient W <- (1 - eta * lam) * W: lam 0.5 on the first kernel, 0.5 * 0.4 behind.

    `cautious` decays where the step has the sign of W or is 0, as here.
    """
    group = {"include": "*second/kernel", "scale": 0.4, "cautious": True}
    method = build_method(config_of(include="*first/kernel", groups=[group]))
    model = small()
    method.attach(model)
    model.set_weights([np.ones(weight.shape) for weight in model.get_weights()])
    for layer in model.layers:
        layer.bias.assign(np.zeros(layer.bias.shape))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.fit(np.zeros((1, 3)), np.zeros((1, 1)), verbose=0, callbacks=list(method.callbacks))
    first, second = (np.asarray(layer.kernel) for layer in model.layers)
    assert first == pytest.approx(np.full((3, 2), 1 - 0.5 * 0.5))
    assert second == pytest.approx(np.full((2, 1), 1 - 0.5 * 0.2))
    assert [decay.cautious for decay in method.callbacks] == [False, True]
    assert method.selected(model) == [layer.kernel for layer in model.layers]


FORMS = {"corrected": True, "cautious": True, "stable": True, "toward": "init", "lazy": True,
         "fused": True, "peak_learning_rate": 1.0}  # fmt: skip


@pytest.mark.parametrize("coupling", ["decoupled", "coupled", "independent"])
def test_the_config_allows_what_weight_decay_allows(coupling: str) -> None:
    """Every pair of forms: the check without Keras and the constructor answer alike."""

    def passes(check: Any) -> bool:
        try:
            check()
        except ValueError:
            return False
        return True

    for pair in [*itertools.combinations(FORMS, 2), *((name,) for name in FORMS)]:
        forms = {name: FORMS[name] for name in pair}
        config = config_of(name=coupling, arguments=forms).regularization
        expected = passes(lambda forms=forms: WeightDecay(0.1, coupling=coupling, **forms))
        assert passes(lambda config=config: check_method(config)) == expected, (coupling, forms)


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
        ({"arguments": {"layer_decay": -1}}, "`regularization.layer_decay` must be positive"),
        ({"arguments": {"toward": "no.keras"}}, "file that exists. Received: .*toward=no.keras"),
        ({"groups": {"include": "*"}}, "groups` must be a list of mappings"),
        ({"groups": [{"cautios": True}]}, r"groups\.0` must have keys .*Did you mean cautious"),
        ({"groups": [{"name": "half_l2"}]}, r"groups\.0\.name` must be one of decoupled"),
        ({"groups": [{"lam": "high"}]}, r"groups\.0\.lam` must be a number >= 0"),
        ({"groups": [{"own_l2": "keep"}]}, "own_l2` holds for all groups"),
        ({"groups": [{"include": 3}]}, r"groups\.0\.include` must be a pattern"),
        ({"name": "none", "groups": [{"include": "*"}]}, "needs one of decoupled"),
    ],
)
def test_what_cannot_be_is_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_method(config_of(**keys).regularization)
