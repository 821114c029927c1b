"""lam by pattern and by depth, and which layers count as normalized."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from l2keras import WeightDecay
from l2keras._keras.graph import normalized_variables
from tests.support.models import Linear, fit_zeros, mse, relative_distance

ETA, LAM = 0.5, 0.25


def three_layers(**compile_arguments: Any) -> Any:
    """`encoder` (a nested model of two layers) and `head`."""
    encoder = keras.Sequential(
        [keras.Input((3,)), Linear(4, name="first"), Linear(4, name="second")], name="encoder"
    )
    inputs = keras.Input((3,))
    model = keras.Model(inputs, Linear(2, name="head")(encoder(inputs)))
    model.compile(keras.optimizers.SGD(ETA), mse, **compile_arguments)
    return model


def shrunk(model: Any, decay: WeightDecay, steps: int = 2, **kwargs: Any) -> list[float]:
    """By what each kernel is multiplied in a fit on zeros."""
    kernels = [v for v in model.trainable_variables if v.path.endswith("kernel")]
    before = [np.asarray(v.numpy()) for v in kernels]
    fit_zeros(model, steps, [decay], **kwargs)
    factors = [np.asarray(v.numpy()) / w for v, w in zip(kernels, before, strict=True)]
    for factor in factors:
        assert relative_distance(factor, np.full_like(factor, factor.mean())) < 1e-12
    return [float(factor.mean()) for factor in factors]


@pytest.mark.usefixtures("float64")
def test_the_first_pattern_that_matches_counts() -> None:
    """Each variable has the lam of the first pattern; the rest of the mask stays."""
    lams = {"*second*": LAM, "*encoder*": LAM / 2, "*": 0.0}
    model = three_layers()
    factors = shrunk(model, WeightDecay(lams))
    expected = [(1 - ETA * LAM / 2) ** 2, (1 - ETA * LAM) ** 2, 1.0]
    assert factors == pytest.approx(expected, rel=1e-12)


@pytest.mark.usefixtures("float64")
def test_a_mapping_decays_what_it_names_only() -> None:
    """What no pattern matches keeps its size; schedules are values too; each is logged."""
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [LAM, LAM / 2])
    model = three_layers()
    decay = WeightDecay({"*first*": schedule, "*second*": LAM})
    factors = shrunk(model, decay)
    expected = [(1 - ETA * LAM) * (1 - ETA * LAM / 2), (1 - ETA * LAM) ** 2, 1.0]
    assert factors == pytest.approx(expected, rel=1e-12)
    logs = fit_zeros(model, 1, [decay])
    assert logs["weight_decay"] == [LAM / 2]
    assert logs["decay_per_step_2"] == [ETA * LAM]


@pytest.mark.parametrize(
    ("lams", "message"),
    [
        ({"*frist*": LAM, "*": LAM}, r"matches none. The nearest paths are: .*first/kernel"),
        ({"*": LAM, "*first*": LAM}, "all match a pattern before it"),
        ({"*/bias": LAM}, "matches none"),
    ],
)
def test_a_pattern_without_effect_is_refused(lams: dict[str, float], message: str) -> None:
    """A lam that no decayed variable would get raises when fit begins."""
    with pytest.raises(ValueError, match=message):
        fit_zeros(three_layers(), 1, [WeightDecay(lams)])


@pytest.mark.usefixtures("float64")
def test_lam_by_depth() -> None:
    """The last layer has lam, each one before it half of the next; nested models are opened."""
    factors = shrunk(three_layers(), WeightDecay(LAM, layer_decay=0.5), steps=1)
    assert factors == pytest.approx(
        [1 - ETA * LAM / 4, 1 - ETA * LAM / 2, 1 - ETA * LAM], rel=1e-12
    )


@pytest.mark.usefixtures("float64")
def test_depth_counts_the_decayed_layers_only() -> None:
    """Without the head the last layer is the second of the encoder."""
    decay = WeightDecay(LAM, layer_decay=0.5, exclude="*head*")
    factors = shrunk(three_layers(), decay, steps=1)
    assert factors == pytest.approx([1 - ETA * LAM / 2, 1 - ETA * LAM, 1.0], rel=1e-12)


def residual_network() -> Any:
    """A stem, a residual branch with its norm, a final norm inside a nested model, a head."""
    inputs = keras.Input((4,))
    stem = keras.layers.Dense(4, name="stem")(inputs)
    branch = keras.layers.Dense(4, name="branch")(stem)
    trunk_inputs = keras.Input((4,))
    trunk = keras.layers.Dense(4, name="trunk")(trunk_inputs)
    trunk = keras.layers.LayerNormalization(name="norm")(trunk)
    nested = keras.Model(trunk_inputs, keras.layers.Dense(4, name="after")(trunk), name="nested")
    outputs = keras.layers.Dense(2, name="head")(nested(keras.layers.add([stem, branch])))
    side = keras.layers.BatchNormalization()(keras.layers.Dense(2, name="side")(inputs))
    return keras.Model(inputs, [outputs, side])


def names(model: Any, ids: set[int]) -> set[str]:
    return {v.path.split("/")[-2] for v in model.weights if id(v) in ids and "kernel" in v.path}


def test_a_layer_is_normalized_where_every_way_to_the_outputs_meets_a_norm() -> None:
    """Through residuals, nested models and several outputs; what follows the norm is not."""
    model = residual_network()
    assert names(model, normalized_variables(model)) == {"stem", "branch", "trunk", "side"}


def test_a_way_around_the_norm_counts() -> None:
    """A layer that reaches an output beside the norm is not normalized."""
    inputs = keras.Input((4,))
    stem = keras.layers.Dense(4, name="stem")(inputs)
    outputs = keras.layers.add([stem, keras.layers.LayerNormalization()(stem)])
    model = keras.Model(inputs, outputs)
    assert names(model, normalized_variables(model)) == set()


@pytest.mark.usefixtures("float64")
def test_corrected_true_corrects_the_normalized_layers() -> None:
    """eta ** 2 / peak for the layer under the norm, eta for the one after it."""
    layers = [Linear(3, name="under"), keras.layers.BatchNormalization(), Linear(2, name="after")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.SGD(ETA), mse)
    decay = WeightDecay(LAM, corrected=True, peak_learning_rate=2.0)
    under, after = shrunk(model, decay, steps=1)
    assert under == pytest.approx(1 - LAM * ETA**2 / 2, rel=1e-12)
    assert after == pytest.approx(1 - LAM * ETA, rel=1e-12)


class Subclassed(keras.Model):
    """A model without a graph of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)


@pytest.mark.parametrize("graph", [True, False])
def test_corrected_true_without_normalization_is_refused(graph: bool) -> None:
    """Without a norm, or without a graph to find it in, the layers have to be named."""
    model: Any = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = model if graph else Subclassed()
    model(np.zeros((2, 3)))
    model.compile(keras.optimizers.SGD(ETA), "mse")
    with pytest.raises(ValueError, match="Name their variables: corrected="):
        model.fit(
            np.zeros((2, 3)),
            np.zeros((2, 2)),
            verbose=0,
            callbacks=[WeightDecay(0.1, corrected=True)],
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"corrected": True, "include": "*after/kernel"}, "of the decayed variables none is such"),
        ({"corrected": "*nowhere*"}, "Each pattern in `corrected` must match"),
        ({"corrected": "*/bias"}, "of the decayed variables none is such"),
    ],
)
def test_corrected_without_effect_is_refused(arguments: dict[str, Any], message: str) -> None:
    """Corrected decay of variables that are not decayed, or not there, raises as such."""
    layers = [Linear(3, name="under"), keras.layers.BatchNormalization(), Linear(2, name="after")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.SGD(ETA), mse)
    with pytest.raises(ValueError, match=message):
        fit_zeros(model, 1, [WeightDecay(LAM, **arguments)])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("arguments", [{"corrected": "*"}, {"coupling": "independent"}])
def test_every_member_of_a_multi_optimizer_has_its_own_peak(arguments: dict[str, Any]) -> None:
    """At constant rates eta ** 2 / peak is eta, and eta / peak is 1, for each of them."""
    layers = [Linear(3, name="first"), Linear(2, name="second")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    by_path = keras.optimizers.OptimizerMap(
        keras.optimizers.SGD(0.5), {".*first.*": keras.optimizers.SGD(0.125)}
    )
    model.compile(keras.optimizers.MultiOptimizer(by_path), mse)
    factors = shrunk(model, WeightDecay(LAM, **arguments), steps=1)
    rates = [0.125, 0.5] if "corrected" in arguments else [1.0, 1.0]
    assert factors == pytest.approx([1 - LAM * eta for eta in rates], rel=1e-12)
