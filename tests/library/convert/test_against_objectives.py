"""convert against scikit-learn and XGBoost: their optimum, or their steps, and ours in Keras.

What is compared is the kernel that Keras finds with HalfL2 and the converted coefficient, by
gradient descent on the whole training set until nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier

from l2keras import HalfL2, convert
from tests.support.models import dense_model, fit, kernel, random_data, relative_distance, to_numpy

SAMPLES, FEATURES = 64, 3  # a power of two: on torch, Keras divides by it in float32
TOLERANCE = 1e-9

pytestmark = pytest.mark.usefixtures("float64")


class OfSquares(keras.losses.Loss):
    """`factor * sum((y - p) ** 2)` of each sample; then the mean over them, or the sum."""

    def __init__(self, factor: float = 1.0, reduction: str = "sum_over_batch_size") -> None:
        super().__init__(reduction=reduction)
        self.factor = factor

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.factor * keras.ops.sum(keras.ops.square(y_true - y_pred), axis=-1)


def log_loss(y_true: Any, logits: Any) -> Any:
    """The negative log-likelihood of each sample, y being 0 or 1."""
    return keras.ops.sum(keras.ops.softplus(logits) - y_true * logits, axis=-1)


def regression() -> tuple[Any, Any]:
    """Inputs, and targets of rank 2."""
    return random_data(SAMPLES, features=FEATURES, units=1)


def classification() -> tuple[Any, Any]:
    """Inputs, and targets that are 0 or 1."""
    inputs, targets = regression()
    return inputs, (inputs[:, :1] + targets > 0).astype("float64")


def optimum(data: tuple[Any, Any], loss: Any, lam: float, rate: float) -> Any:
    """The kernel of the Keras model whose loss, with HalfL2(lam), is at its minimum."""
    steps = 150
    model = dense_model(1, data[0].shape[1], regularizer=HalfL2(lam))
    model.compile(keras.optimizers.SGD(rate), loss)
    same_batch = [np.tile(array, (steps, 1)) for array in data]
    kernels = []
    for _ in range(2):
        fit(model, (same_batch[0], same_batch[1]), batch_size=len(data[0]))
        kernels.append(kernel(model))
    assert relative_distance(kernels[0], kernels[1]) < 1e-12  # nothing moves any more
    return kernels[1]


LOSSES: dict[str, Callable[[], Any]] = {
    "sklearn.Ridge": OfSquares,
    "sklearn.Ridge.half_mean": lambda: OfSquares(0.5),
    "sklearn.Ridge.sum": lambda: OfSquares(reduction="sum"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_ridge_has_our_optimum(name: str) -> None:
    """For the mean of squares, of half squares, and their sum: the coefficients of Ridge."""
    inputs, targets = regression()
    alpha = 10.0
    theirs = Ridge(alpha, fit_intercept=False, solver="cholesky").fit(inputs, targets[:, 0])
    lam = convert(alpha, name, "half_l2", num_samples=SAMPLES)
    assert lam.exact
    rate = {
        "sklearn.Ridge": 0.25,
        "sklearn.Ridge.half_mean": 0.5,
        "sklearn.Ridge.sum": 0.25 / SAMPLES,
    }
    ours = optimum((inputs, targets), LOSSES[name](), lam, rate[name])
    assert relative_distance(ours[:, 0], theirs.coef_) < TOLERANCE


def test_logistic_regression_has_our_optimum() -> None:
    """The coefficients for C, found by Newton's method there and by descent here."""
    inputs, targets = classification()
    theirs = LogisticRegression(C=0.125, fit_intercept=False, solver="newton-cholesky", tol=1e-14)
    theirs.fit(inputs, targets[:, 0])
    lam = convert(0.125, "sklearn.LogisticRegression", "half_l2", num_samples=SAMPLES)
    assert lam.exact
    ours = optimum((inputs, targets), log_loss, lam, 1.0)
    assert relative_distance(ours, theirs.coef_.T) < TOLERANCE


def test_mlp_classifier_takes_our_steps() -> None:
    """100 steps of its SGD from the same weights on the same batches; no intercept decays."""
    batch_size, steps, alpha, eta = 4, 100, 0.5, 0.25
    inputs, _ = random_data(batch_size * steps, features=FEATURES)
    targets = (inputs[:, :1] > 0.3 * inputs[:, 1:2]).astype("float64")
    theirs = MLPClassifier(
        *((), "identity"), solver="sgd", alpha=alpha, learning_rate_init=eta, momentum=0.0
    )
    lam = convert(alpha, "sklearn.MLPClassifier", "half_l2", batch_size=batch_size)
    assert lam.exact
    model = dense_model(1, FEATURES, use_bias=True, regularizer=HalfL2(lam))
    batches = [slice(first, first + batch_size) for first in range(0, len(inputs), batch_size)]
    theirs.partial_fit(inputs[batches[0]], targets[batches[0], 0], classes=[0.0, 1.0])
    theirs.coefs_[0][:], theirs.intercepts_[0][:] = kernel(model), 0.0
    for rows in batches:
        theirs.partial_fit(inputs[rows], targets[rows, 0])
    model.compile(keras.optimizers.SGD(eta), log_loss)
    fit(model, (inputs, targets), batch_size=batch_size)
    assert relative_distance(kernel(model), theirs.coefs_[0]) < TOLERANCE
    assert abs(to_numpy(model.get_layer("dense").bias) - theirs.intercepts_[0]) < TOLERANCE


def xgboost_model(data: tuple[Any, Any], rounds: int, **parameters: Any) -> Any:
    """A booster of XGBoost, which computes in float32."""
    xgboost = pytest.importorskip("xgboost", reason="xgboost-cpu has wheels for Linux only")
    settings = {"objective": "reg:squarederror", "base_score": 0.0, "eta": 1.0, "nthread": 1}
    training = xgboost.DMatrix(data[0], data[1])
    return xgboost.train({**settings, **parameters}, training, rounds), training


def test_the_leaves_of_xgboost_are_our_optimum() -> None:
    """A tree is a linear layer on the leaf that a sample falls into, one-hot."""
    inputs, targets = regression()
    booster, training = xgboost_model((inputs, targets), 1, max_depth=2, **{"lambda": 10.0})
    leaves = booster.predict(training, pred_leaf=True).astype(int).ravel()
    one_hot = (leaves[:, None] == np.unique(leaves)).astype("float64")
    assert one_hot.shape[1] > 2
    lam = convert(10.0, "xgboost.lambda", "half_l2", num_samples=SAMPLES)
    assert lam.exact
    ours = one_hot @ optimum((one_hot, targets), OfSquares(0.5), lam, 1.5)
    assert relative_distance(ours[:, 0], booster.predict(training)) < 1e-6


def test_gblinear_has_our_optimum() -> None:
    """Its lambda is multiplied by the number of samples, unlike that of the trees."""
    inputs, targets = regression()
    inputs, targets = inputs - inputs.mean(axis=0), targets - targets.mean()  # its bias is 0
    booster, _ = xgboost_model(
        (inputs, targets), 200, booster="gblinear", updater="coord_descent", **{"lambda": 0.25}
    )
    found = np.array([float(line) for line in booster.get_dump()[0].split() if line[-1].isdigit()])
    lam = convert(0.25, "xgboost.lambda.gblinear", "half_l2")
    assert lam.exact
    ours = optimum((inputs, targets), OfSquares(0.5), lam, 0.5)
    assert relative_distance(found[1:], ours[:, 0]) < 1e-5
