"""The arms of a comparison, how far their weights part from HalfL2's, and what that means.

Pure functions over configs and arrays; `experiments.compare` trains and records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from experiments.schema import CompareConfig, ConfigError, MixedPrecision


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
    def label(self) -> str:
        return LABELS[self.name].format(lam=f"{self.pasted:g}")


LABELS = {
    "none": "none",
    "builtin_l2": "keras L2({lam})",
    "builtin_half": "keras L2({lam}), halved",
    "half_l2": "HalfL2({lam})",
    "decoupled": "WeightDecay({lam})",
    "coupled": "WeightDecay({lam}, coupled)",
    "optimizer_weight_decay": "optimizer weight_decay={lam}",
}
TITLES = {
    "none": "none",
    "builtin_l2": "keras L2(lambda), as pasted",
    "builtin_half": "keras L2(lambda/2)",
    "half_l2": "HalfL2(lambda)",
    "decoupled": "WeightDecay(lambda)",
    "coupled": "WeightDecay(lambda, coupled)",
    "optimizer_weight_decay": "optimizer weight_decay=lambda",
}
REFERENCE = "half_l2"


def check_comparison(config: CompareConfig) -> None:
    """Raises ConfigError for arms that do not exist and an empty grid."""
    unknown = [name for name in config.compare.arms if name not in LABELS]
    if unknown:
        raise ConfigError(f"`compare.arms` must be among {list(LABELS)}. Received: {unknown[0]!r}.")
    with np.errstate(over="ignore"):
        single = [np.float32(2 * lam) / 4 for lam in config.compare.lams]
    if not single or not all(0 < lam < np.inf for lam in single):
        raise ConfigError(
            "`compare.lams` needs positive lambdas that float32 can hold. "
            f"Received: {config.compare.lams}. The arm `none` is lambda 0."
        )


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
    names = [name for name in LABELS if name in config.compare.arms and name != REFERENCE]
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
    """What the distance from HalfL2(lambda) means, in words.

    Args:
        arm: The arm.
        config: Of the comparison; the optimizer decides what to expect.
        distance: The largest distance of the arm's weights from HalfL2(lambda)'s.
        to_doubled: The same from HalfL2(2*lambda)'s, where that was trained.
    """
    if arm.name == REFERENCE:
        return "the reference"
    if arm.name == "none":
        return "no regularization"
    limit = tolerance(config)
    if distance <= limit:
        return "equal to rounding" if distance else "equal to the last bit"
    if to_doubled is not None and to_doubled <= limit:
        return f"same as lambda = {2 * arm.lam:g}: 2x what was asked"
    return f"different, because {reason(arm, config)}"


def reason(arm: Arm, config: CompareConfig) -> str:
    """Why an arm parts from HalfL2 under this optimizer."""
    optimizer = config.optimizer
    if arm.name == "builtin_l2":
        return "its gradient is 2*lambda*W"
    decoupled = arm.name in ("decoupled", "optimizer_weight_decay")
    if decoupled and optimizer.name == "adam":
        return "Adam divides lambda*W by sqrt(v), decay is not divided"
    if decoupled and optimizer.momentum:
        return "lambda*W in the loss enters the velocity, decay does not"
    if optimizer.clipnorm or optimizer.global_clipnorm:
        return "the penalty is clipped with the gradient, decay is not"
    return "of more than rounding: this should not be, please report it"


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
        distances: From HalfL2 at the same lambda, before training and after every epoch;
            None where HalfL2 was not meant to be compared with (none).
        verdict: What the largest distance means, in words.
    """

    arm: Arm
    effective_lam: float
    history: dict[str, list[float]]
    seconds: float
    steps_per_epoch: int
    distances: np.ndarray | None
    verdict: str

    @property
    def distance(self) -> float:
        """The largest distance from HalfL2's weights."""
        return math.nan if self.distances is None else float(np.max(self.distances))

    def last(self, metric: str) -> float:
        """The value after the last epoch; nan if the task has no such metric."""
        return self.history.get(metric, [math.nan])[-1]

    @property
    def score(self) -> float:
        """Test accuracy; for a regression the negative test data loss. Higher is better."""
        if "val_accuracy" in self.history:
            return self.last("val_accuracy")
        return -self.last("val_data_loss")


def of(results: Sequence[ArmResult], name: str, lams: Sequence[float]) -> list[ArmResult]:
    """The results of one method on the grid, in the order of lambda."""
    chosen = [r for r in results if r.arm.name == name and r.arm.lam in lams]
    return sorted(chosen, key=lambda r: r.arm.lam)


def best_lambda(results: Sequence[ArmResult], lams: Sequence[float]) -> float:
    """The lambda of the grid at which HalfL2 scores best."""
    references = of(results, REFERENCE, lams)
    return best([r.arm.lam for r in references], [r.score for r in references])[0]


COLUMNS = (
    "method",
    "lambda",
    "test accuracy",
    "test data loss",
    "train data loss",
    "penalty",
    "||W||",
    "seconds",
    "distance",
    "verdict",
)


def row(result: ArmResult) -> list[str]:
    """One line of the table, as text; `lambda` is the effective one, in the half convention."""
    accuracy = result.last("val_accuracy")
    return [
        result.arm.label,
        f"{result.effective_lam:g}",
        "-" if math.isnan(accuracy) else f"{accuracy:.3f}",
        f"{result.last('val_data_loss'):.4f}",
        f"{result.last('data_loss'):.4f}",
        f"{result.last('penalty'):.4f}",
        f"{result.last('weight_norm'):.3f}",
        f"{result.seconds:.1f}",
        "-" if math.isnan(result.distance) else f"{result.distance:.1e}",
        result.verdict,
    ]


def table_order(results: Sequence[ArmResult], lams: Sequence[float]) -> list[ArmResult]:
    """By lambda, then method; HalfL2 trained only to be compared with comes last."""
    names = list(LABELS)
    return sorted(
        results, key=lambda r: (r.arm.lam not in (0.0, *lams), r.arm.lam, names.index(r.arm.name))
    )
