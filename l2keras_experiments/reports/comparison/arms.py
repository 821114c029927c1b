"""The arms of a comparison, the distances of their weights from HalfL2's, and verdicts.

Pure functions over configs and arrays; `experiments.compare` trains and records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from l2keras_experiments.config import methods
from l2keras_experiments.config.schema import (
    CompareConfig,
    ConfigError,
    MixedPrecision,
    briefly,
)
from l2keras_experiments.training.regularization import check_with_optimizer


@dataclass(frozen=True)
class Arm:
    """One method at one lambda.

    Attributes:
        name: What `compare.arms` calls it.
        lam: The lambda of the grid.
    """

    name: str
    lam: float

    @property
    def method(self) -> str:
        """The name in the group `regularization`."""
        return "builtin_l2" if self.name == "builtin_half" else self.name

    @property
    def pasted(self) -> float:
        """The coefficient that the method is given."""
        return self.lam / 2 if self.name == "builtin_half" else self.lam

    @property
    def run_name(self) -> str:
        """In the MLflow UI, whose columns show 12 letters."""
        return f"{briefly(self.lam)} {methods.short(self.name)}"

    @property
    def label(self) -> str:
        """The method and the number that it is given."""
        title = methods.label(self.name)
        return title if self.name == "none" else f"{title} {self.pasted:g}"


NAMES = (
    "none",
    "builtin_l2",
    "builtin_half",
    "half_l2",
    "decoupled",
    "coupled",
    "optimizer_weight_decay",
)  # in the order of the table
REFERENCE = "half_l2"


def check_comparison(config: CompareConfig) -> None:
    """Raises ConfigError for arms that do not exist and an empty grid."""
    unknown = [name for name in config.compare.arms if name not in NAMES]
    if unknown:
        raise ConfigError(
            f"`compare.arms` must be among {list(NAMES)}. Received: {unknown[0]!r}. "
            "Choose among them."
        )
    with np.errstate(over="ignore"):
        single = [np.float32(2 * lam) / 4 for lam in config.compare.lams]
    if not single or not all(0 < lam < np.inf for lam in single):
        raise ConfigError(
            "`compare.lams` needs positive lambdas that float32 can hold. "
            f"Received: {config.compare.lams}. The arm `none` is lambda 0."
        )
    for arm in plan(config):
        check_with_optimizer(configure(config, arm).regularization, config.optimizer)


def grid(config: CompareConfig) -> list[float]:
    """The lambdas to compare at, ascending, each to the precision of float32.

    Keras casts the coefficients of its own regularizer and optimizers through float32, in
    float64 too. With a lambda that survives it, all arms get the same one, to the last bit.
    """
    return sorted({float(np.float32(lam)) for lam in config.compare.lams})


def plan(config: CompareConfig) -> list[Arm]:
    """Every arm to train, HalfL2 before the others of its lambda.

    HalfL2 is trained at 2*lambda too, which is what the built-in at lambda is.
    """
    lams = grid(config)
    names = [name for name in NAMES if name in config.compare.arms and name != REFERENCE]
    references = set(lams)
    if "builtin_l2" in names:
        references |= {2 * lam for lam in lams}
    arms = [Arm("none", 0.0)] if "none" in names else []
    arms += [Arm(REFERENCE, lam) for lam in sorted(references)]
    return arms + [Arm(name, lam) for lam in lams for name in names if name != "none"]


def configure(config: CompareConfig, arm: Arm) -> CompareConfig:
    """The config of one arm."""
    chosen = replace(config.regularization, name=arm.method, lam=arm.pasted)
    return replace(config, regularization=chosen)


def distances(trajectory: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """||W - W_ref|| / ||W_ref|| for each recorded epoch.

    Args:
        trajectory, reference: Weights, shape (epochs + 1, number of weights).

    Returns:
        Array of shape (epochs + 1,); inf where weights are not finite.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.linalg.norm(trajectory - reference, axis=1)
        relative = apart / np.linalg.norm(reference, axis=1)
    return np.where(np.isfinite(relative), relative, math.inf)


_ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}


def tolerance(config: CompareConfig) -> float:
    """How far rounding alone can part two trajectories: half the digits of the arithmetic.

    Training a network amplifies rounding; the square root of the unit roundoff leaves room for
    it and is still far below any difference in lambda.
    """
    mixed = config.training.mixed_precision
    kind = config.training.dtype.value if mixed is MixedPrecision.none else mixed.value
    return math.sqrt(_ROUNDOFF[kind])


def verdict(arm: Arm, config: CompareConfig, distance: float, to_doubled: float | None) -> str:
    """The verdict on the distance from HalfL2 at the same lambda.

    Args:
        arm: The arm.
        config: Of the comparison; the optimizer decides what to expect.
        distance: The largest distance of the arm's weights from HalfL2(lambda)'s.
        to_doubled: The same from HalfL2(2*lambda)'s, where that was trained.
    """
    if arm.name == REFERENCE:
        return "reference"
    if arm.name == "none":
        return "no decay"
    limit = tolerance(config)
    if distance <= limit:
        return "equal up to rounding" if distance else "equal bit for bit"
    if to_doubled is not None and to_doubled <= limit:
        return f"equal to lambda = {2 * arm.lam:g}: twice the number written"
    return f"different: {reason(arm, config)}"


def reason(arm: Arm, config: CompareConfig) -> str:
    """The reason why an arm differs from HalfL2 under this optimizer."""
    optimizer = config.optimizer
    if arm.name == "builtin_l2":
        return "gradient is 2*lambda*W"
    decoupled = arm.name in ("decoupled", "optimizer_weight_decay")
    if decoupled and optimizer.name != "sgd":
        return f"{optimizer.name} scales the penalty's gradient, not the decay"
    if decoupled and optimizer.arguments.get("momentum"):
        return "the penalty enters the velocity, the decay does not"
    if any(optimizer.arguments.get(key) for key in ("clipnorm", "clipvalue", "global_clipnorm")):
        return "the penalty is clipped with the gradient, the decay is not"
    return "more than rounding explains; please report it"


def best(lams: Sequence[float], scores: Sequence[float]) -> tuple[float, float]:
    """The lambda of the highest score, and the score; nan never wins."""
    finite = [(s, lam) for lam, s in zip(lams, scores, strict=True) if math.isfinite(s)]
    score, lam = max(finite) if finite else (math.nan, math.nan)
    return lam, score


@dataclass(frozen=True, eq=False)
class ArmResult:
    """An arm, trained and measured.

    Attributes:
        history: For each metric its values, one an epoch.
        test: Metrics on the test examples, after training.
        distances: From HalfL2 at the same lambda, before training and after every epoch;
            None where HalfL2 was not meant to be compared with (none).
        verdict: What the largest distance means, in words.
        selection: The validation metric that is compared, and whether it is to grow.
    """

    arm: Arm
    effective_lam: float
    history: dict[str, list[float]]
    test: dict[str, float]
    seconds: float
    steps_per_epoch: int
    distances: np.ndarray | None
    verdict: str
    selection: tuple[str, bool] = ("val_accuracy", True)

    @property
    def distance(self) -> float:
        """The largest distance from HalfL2's weights."""
        return math.nan if self.distances is None else float(np.max(self.distances))

    def last(self, metric: str) -> float:
        """The value after the last epoch; nan if the task has no such metric."""
        return self.history.get(metric, [math.nan])[-1]

    @property
    def metric(self) -> str:
        """What is compared, without the name of a part: accuracy, or data_loss for a regression."""
        return self.selection[0].removeprefix("val_")

    @property
    def beside_loss(self) -> str:
        """What the table shows beside the data loss."""
        return "accuracy" if self.metric == "data_loss" else self.metric

    @property
    def validated(self) -> float:
        """The metric on the validation examples, after the last epoch."""
        return self.last(self.selection[0])

    @property
    def score(self) -> float:
        """The same, negative where lower is better."""
        return self.validated if self.selection[1] else -self.validated

    @property
    def tested(self) -> float:
        """The same metric on the test examples; nan without any."""
        return self.test.get(f"test_{self.metric}", math.nan)


def of(results: Sequence[ArmResult], name: str, lams: Sequence[float]) -> list[ArmResult]:
    """The results of one method on the grid, in the order of lambda."""
    chosen = [r for r in results if r.arm.name == name and r.arm.lam in lams]
    return sorted(chosen, key=lambda r: r.arm.lam)


def best_lambda(results: Sequence[ArmResult], lams: Sequence[float]) -> float:
    """The lambda of the grid at which HalfL2 scores best."""
    references = of(results, REFERENCE, lams)
    return best([r.arm.lam for r in references], [r.score for r in references])[0]


_COLUMNS = (
    "method",
    "as written",
    "lambda",
    "validation accuracy",
    "validation data loss",
    "test accuracy",
    "test data loss",
    "training data loss",
    "penalty",
    "||W||",
    "seconds",
    "distance",
    "verdict",
)


_IMPORTANT = (
    "method",
    "lambda",
    "validation accuracy",
    "distance",
    "verdict",
    "test accuracy",
    "as written",
    "seconds",
)


def columns(results: Sequence[ArmResult]) -> list[str]:
    """The columns of the table."""
    return _named(_COLUMNS, results)


def important(results: Sequence[ArmResult]) -> list[str]:
    """Those of a narrow terminal, the most important first."""
    return _named(_IMPORTANT, results)


def narrow(results: Sequence[ArmResult]) -> list[str]:
    """Those that are always shown, also on a phone: to the verdict."""
    return important(results)[: _IMPORTANT.index("verdict") + 1]


def _named(columns: Sequence[str], results: Sequence[ArmResult]) -> list[str]:
    metric = results[0].beside_loss.replace("_", " ")
    return [column.replace("accuracy", metric) for column in columns]


def row(result: ArmResult) -> list[str]:
    """One line of the table, as text; `lambda` is the effective one, in the half convention."""
    return [
        methods.label(result.arm.name),
        "-" if result.arm.name == "none" else f"{result.arm.pasted:g}",
        f"{result.effective_lam:g}",
        _number(result.last(f"val_{result.beside_loss}"), ".3f"),
        f"{result.last('val_data_loss'):.4f}",
        _number(result.test.get(f"test_{result.beside_loss}", math.nan), ".3f"),
        _number(result.test.get("test_data_loss", math.nan), ".4f"),
        f"{result.last('data_loss'):.4f}",
        _number(result.last("penalty"), ".4f"),
        f"{result.last('weight_norm'):.3f}",
        f"{result.seconds:.1f}",
        shown_distance(result.distance),
        result.verdict,
    ]


def numbers(result: ArmResult) -> dict[str, Any]:
    """One line of the table, as numbers; None for what was not measured."""
    history = {key: result.last(key) for key in result.history}
    values = {**history, **result.test, "distance": result.distance, "seconds": result.seconds}
    return {
        "method": methods.label(result.arm.name),
        "as_written": None if result.arm.name == "none" else float(f"{result.arm.pasted:.7g}"),
        "lambda": float(f"{result.effective_lam:.7g}"),
        **{key: value if math.isfinite(value) else None for key, value in values.items()},
        "verdict": result.verdict,
    }


def shown_distance(value: float) -> str:
    """A distance of weights, as every table and sentence shows it."""
    return "0" if value == 0 else _number(value, ".1e")


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else f"{value:{form}}"


def table_order(results: Sequence[ArmResult], lams: Sequence[float]) -> list[ArmResult]:
    """By lambda, then method; HalfL2 trained only to be compared with comes last."""
    return sorted(
        results, key=lambda r: (r.arm.lam not in (0.0, *lams), r.arm.lam, NAMES.index(r.arm.name))
    )
