"""Arms, distances and verdicts, on hand-made trajectories."""

from __future__ import annotations

import math

import numpy as np
import pytest

from l2keras_experiments.config.schema import CompareConfig, ConfigError, Dtype, MixedPrecision
from l2keras_experiments.reports.comparison import arms
from l2keras_experiments.reports.comparison.arms import Arm, ArmResult

ADAM = {"_target_": "keras.optimizers.Adam"}


def config_of(lams: list[float], names: list[str] | None = None) -> CompareConfig:
    config = CompareConfig()
    config.training.dtype = Dtype.float64
    config.compare.lams = lams
    if names is not None:
        config.compare.arms = names
    return config


def test_the_plan_has_the_references_first() -> None:
    """HalfL2 is trained at every lambda and its double, once each, before what it judges."""
    plan = arms.plan(config_of([0.125, 0.25], ["none", "builtin_l2", "coupled"]))
    assert plan == [
        Arm("none", 0.0),
        Arm("half_l2", 0.125),
        Arm("half_l2", 0.25),
        Arm("half_l2", 0.5),
        Arm("builtin_l2", 0.125),
        Arm("coupled", 0.125),
        Arm("builtin_l2", 0.25),
        Arm("coupled", 0.25),
    ]


def test_doubles_are_trained_for_the_builtin_only() -> None:
    """Without the built-in nothing needs HalfL2 at 2*lambda."""
    plan = arms.plan(config_of([0.125], ["coupled"]))
    assert plan == [Arm("half_l2", 0.125), Arm("coupled", 0.125)]


def test_the_halved_builtin_is_given_half() -> None:
    """The arm builtin_half hands lambda/2 to the method builtin_l2."""
    arm = Arm("builtin_half", 0.1)
    configured = arms.configure(config_of([0.1]), arm)
    assert (configured.regularization.name, configured.regularization.lam) == ("builtin_l2", 0.05)
    assert arm.label == "keras L2 halved 0.05"


def test_distances_are_relative_norms() -> None:
    """||W - W_ref|| / ||W_ref|| for each row; inf where training diverged."""
    reference = np.array([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])
    trajectory = np.array([[3.0, 4.0], [0.0, 3.0], [math.nan, 0.0]])
    assert arms.distances(trajectory, reference).tolist() == [0.0, 0.5, math.inf]


@pytest.mark.parametrize(
    ("name", "distance", "to_doubled", "expected"),
    [
        ("none", 0.5, None, "no decay"),
        ("half_l2", 0.0, None, "reference"),
        ("coupled", 0.0, None, "equal bit for bit"),
        ("decoupled", 1e-14, None, "equal up to rounding"),
        ("builtin_half", 1e-9, 0.2, "equal up to rounding"),
        ("builtin_l2", 0.3, 1e-9, "equal to lambda = 0.2: twice the number written"),
        ("builtin_l2", 0.3, 0.1, "different: gradient is 2*lambda*W"),
        ("decoupled", 1e-6, None, "different: more than rounding"),
        ("decoupled", math.inf, None, "different: more than rounding"),
    ],
)
def test_verdicts_under_sgd(
    name: str, distance: float, to_doubled: float | None, expected: str
) -> None:
    """The verdict says equal, twice, or different and why."""
    found = arms.verdict(Arm(name, 0.1), config_of([0.1]), distance, to_doubled)
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("name", "optimizer", "because"),
    [
        ("decoupled", ADAM, "adam scales the penalty's gradient"),
        ("optimizer_weight_decay", ADAM, "adam scales the penalty's gradient"),
        ("decoupled", {"momentum": 0.9}, "enters the velocity"),
        ("coupled", {"clipnorm": 1.0}, "clipped with the gradient"),
        ("decoupled", {"global_clipnorm": 1.0}, "clipped with the gradient"),
    ],
)
def test_verdicts_name_the_reason(name: str, optimizer: dict[str, object], because: str) -> None:
    """An arm that parts from HalfL2 has a verdict that names what the optimizer does."""
    config = config_of([0.1])
    arguments = dict(optimizer)
    config.optimizer.target = str(arguments.pop("_target_", config.optimizer.target))
    config.optimizer.arguments = arguments
    verdict = arms.verdict(Arm(name, 0.1), config, 0.3, None)
    assert verdict.startswith("different: ")
    assert because in verdict


def test_tolerance_follows_the_arithmetic() -> None:
    """Half the digits of the arithmetic."""
    config = config_of([0.1])
    assert arms.tolerance(config) == 2.0**-26.5
    config.training.dtype = Dtype.float32
    assert arms.tolerance(config) == 2.0**-12
    config.training.mixed_precision = MixedPrecision.bfloat16
    assert arms.tolerance(config) == 2.0**-4


def test_the_grid_survives_float32() -> None:
    """Each lambda of the grid, and its half and double, is exact in float32, as Keras casts it."""
    grid = arms.grid(config_of([0.1, 0.05, 0.1]))
    assert grid == pytest.approx([0.05, 0.1])
    assert [float(np.float32(lam)) for lam in grid] == grid


def test_validation_scores_and_the_test_is_shown_beside_it() -> None:
    """The score never depends on the test examples; the row names which is which."""
    history = {"val_accuracy": [0.5, 0.75], "val_data_loss": [1.0, 0.5], "data_loss": [0.4],
               "penalty": [0.1], "weight_norm": [2.0]}  # fmt: skip
    test = {"test_accuracy": 0.625, "test_data_loss": 0.7}
    result = ArmResult(Arm("half_l2", 0.1), 0.1, history, test, 1.0, 4, np.zeros(2), "")
    assert (result.score, result.tested) == (0.75, 0.625)
    shown = dict(zip(arms.columns([result]), arms.row(result), strict=True))
    assert (shown["validation accuracy"], shown["test accuracy"]) == ("0.750", "0.625")
    regression = {key: values for key, values in history.items() if key != "val_accuracy"}
    loss = ("val_data_loss", False)
    other = ArmResult(Arm("half_l2", 0.1), 0.1, regression, {}, 1.0, 4, np.zeros(2), "", loss)
    assert (other.score, other.metric) == (-0.5, "data_loss")
    no_penalty = {key: values for key, values in regression.items() if key != "penalty"}
    without = ArmResult(Arm("half_l2", 0.1), 0.1, no_penalty, {}, 1.0, 4, np.zeros(2), "", loss)
    assert dict(zip(arms.columns([without]), arms.row(without), strict=True))["penalty"] == "-"
    assert math.isnan(other.tested)
    own = {**history, "val_auc": [0.9, 0.8]}
    auc = ("val_auc", True)
    third = ArmResult(Arm("half_l2", 0.1), 0.1, own, {}, 1.0, 4, np.zeros(2), "", auc)
    assert third.score == 0.8
    assert (
        dict(zip(arms.columns([third]), arms.row(third), strict=True))["validation auc"] == "0.800"
    )


def test_best_ignores_what_diverged() -> None:
    """The best lambda has the highest finite score; without one there is none."""
    assert arms.best([1.0, 2.0, 3.0], [0.5, 0.7, math.nan]) == (2.0, 0.7)
    assert math.isnan(arms.best([1.0], [math.nan])[0])


@pytest.mark.parametrize(
    ("lams", "names", "message"),
    [
        ([0.1], ["l2"], r"`compare\.arms`.*'l2'"),
        ([], ["none"], r"`compare\.lams`"),
        ([0.0], ["none"], "`none` is lambda 0"),
        ([1e-50], ["none"], "that float32 can hold"),
        ([1e50], ["none"], "that float32 can hold"),
    ],
)
def test_impossible_comparisons(lams: list[float], names: list[str], message: str) -> None:
    """Unknown arms and empty grids raise before anything is trained."""
    with pytest.raises(ConfigError, match=message):
        arms.check_comparison(config_of(lams, names))
