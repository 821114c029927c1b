"""Every system whose coefficient `l2keras.convert` knows: one row of data for each.

W is W_t, g the gradient of the data loss at W, eta_t the learning rate at step t, c the number
that is passed to the system. What decays a weight is one of four kinds, each with its strength:

    coupled      g + lam * W                         the optimizer sees the decay; penalties too
    decoupled    (1 - eta_t * lam) * W               beside the optimizer's step
    relative     (1 - s * eta_t / eta_init) * W      s = eta_init * lam
    fixed        (1 - s) * W                         s = eta * lam, only if eta is constant
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from l2keras import _validation


@dataclass(frozen=True, slots=True)
class Scale:
    """How a coefficient counts: strength = factor * c / divisor, or 1 / (c * divisor)."""

    factor: float = 1.0
    per: str = ""  # the argument of `convert` that divides: "num_samples" for a sum over them
    root: bool = False  # its square root does
    reciprocal: bool = False

    def divisor(self, count: int | None) -> float:
        """What divides, from the value of the argument `per`."""
        return math.sqrt(count or 1) if self.root else float(count or 1)

    def strength(self, c: float, divisor: float) -> float:
        """From the coefficient of the system to the strength of its kind."""
        return 1.0 / (c * divisor) if self.reciprocal else self.factor * c / divisor

    def coefficient(self, strength: float, divisor: float) -> float:
        """The inverse of `strength`."""
        return 1.0 / (strength * divisor) if self.reciprocal else strength * divisor / self.factor


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One convention; `update` and `note` are for people, the other fields decide."""

    name: str
    kind: str
    update: str
    source: str
    scale: Scale = Scale()
    optimizer: str | None = None  # the family that it belongs to: "sgd" or "adam"
    velocity: str | None = None  # the learning rate is "inside" the velocity, or "outside" it
    clipped: bool | None = False  # whether the decay is clipped with g; None: nothing is
    note: str = ""

    @property
    def uses_rate(self) -> bool:
        """Whether a learning rate stands between the strength and lam."""
        return self.kind in ("relative", "fixed")

    @property
    def lam(self) -> str:
        """lam as a formula in c."""
        rate = {"relative": ["eta_init"], "fixed": ["eta"]}.get(self.kind, [])
        count = f"sqrt({self.scale.per})" if self.scale.root else self.scale.per
        below = [*(["c"] if self.scale.reciprocal else []), *rate, *([count] if count else [])]
        above = "c" if self.scale.factor == 1.0 else f"{self.scale.factor:g}*c"
        above = "1" if self.scale.reciprocal else above
        divisor = f"({'*'.join(below)})" if len(below) > 1 else "".join(below)
        return f"{above}/{divisor}" if below else above


_SUM = "a sum over num_samples, of which a Keras loss is the mean"
_RIDGE = "sklearn/linear_model/_ridge.py"
_TFA = "tensorflow_addons/optimizers/weight_decay_optimizers.py"
_TOUCHED = "of an embedding with sparse gradients it decays only the rows of the batch"

SYSTEMS = (
    System(
        name="half_l2",
        kind="coupled",
        update="loss + (c/2)*sum(W^2): g + c*W",
        source="l2keras/regularizers.py",
        velocity="inside",
        clipped=True,
    ),
    System(
        name="WeightDecay",
        kind="decoupled",
        update="(1 - eta_t*c)*W - step(g)",
        source="l2keras/callbacks.py",
        velocity="inside",
    ),
    System(
        name="WeightDecay.coupled",
        kind="coupled",
        update="W - step(g + c*W)",
        source="l2keras/callbacks.py",
        velocity="inside",
    ),
    System(
        name="WeightDecay.independent",
        kind="relative",
        update="(1 - c*eta_t/eta_peak)*W - step(g)",
        source="l2keras/callbacks.py",
        velocity="inside",
        note="its peak_learning_rate is the eta_init of the formula",
    ),
    System(
        name="keras.L2",
        kind="coupled",
        update="loss + c*sum(W^2): g + 2*c*W",
        source="keras/src/regularizers/regularizers.py",
        scale=Scale(factor=2.0),
        velocity="inside",
        clipped=True,
    ),
    System(
        name="keras.weight_decay",
        kind="decoupled",
        update="W - eta_t*c*W - step(g)",
        source="keras/src/optimizers/base_optimizer.py",
        velocity="inside",
        note="it decays biases and normalization too, unless excluded",
    ),
    System(
        name="tf.l2_loss",
        kind="coupled",
        update="loss + c*sum(W^2)/2: g + c*W",
        source="tensorflow/core/kernels/l2loss_op.h",
        velocity="inside",
        clipped=True,
    ),
    System(
        name="torch.SGD",
        kind="coupled",
        update="W - eta_t*velocity(g + c*W)",
        source="torch/optim/sgd.py",
        optimizer="sgd",
        velocity="outside",
    ),
    System(
        name="torch.Adam",
        kind="coupled",
        update="W - eta_t*adam(g + c*W)",
        source="torch/optim/adam.py",
        optimizer="adam",
    ),
    System(
        name="torch.AdamW",
        kind="decoupled",
        update="(1 - eta_t*c)*W - eta_t*adam(g)",
        source="torch/optim/adamw.py",
        optimizer="adam",
    ),
    System(
        name="optax.add_decayed_weights",
        kind="coupled",
        update="W - step(g + c*W)",
        source="optax/transforms/_adding.py",
        velocity="outside",
        note="it stands first in the chain",
    ),
    System(
        name="optax.add_decayed_weights.after",
        kind="decoupled",
        update="W - eta_t*(scaled(g) + c*W)",
        source="optax/transforms/_adding.py",
        velocity="outside",
        note="it stands between scale_by_adam or trace and the learning rate",
    ),
    System(
        name="optax.adamw",
        kind="decoupled",
        update="W - eta_t*(adam(g) + c*W)",
        source="optax/_src/alias.py",
        optimizer="adam",
    ),
    System(
        name="tfa.SGDW",
        kind="fixed",
        update="(1 - c)*W - step(g)",
        source=_TFA,
        optimizer="sgd",
        velocity="inside",
        note=_TOUCHED,
    ),
    System(
        name="tfa.AdamW",
        kind="fixed",
        update="(1 - c)*W - eta_t*adam(g)",
        source=_TFA,
        optimizer="adam",
        note=_TOUCHED,
    ),
    System(
        name="keras_adamw",
        kind="fixed",
        update="(1 - c/sqrt(num_steps))*W - eta*adam(g)",
        source="keras_adamw/utils.py",
        scale=Scale(per="num_steps", root=True),
        optimizer="adam",
        note="without its own annealing, which scales both terms; num_steps is total_iterations",
    ),
    System(
        name="hf.AdamWeightDecay",
        kind="decoupled",
        update="(1 - eta_t*c)*W - eta_t*adam(g)",
        source="transformers/optimization_tf.py",
        optimizer="adam",
    ),
    System(
        name="timm.AdamW",
        kind="decoupled",
        update="(1 - eta_t*c)*W - eta_t*adam(g)",
        source="timm/optim/adamw.py",
        optimizer="adam",
        note="without its corrected_weight_decay, which is (1 - c*eta_t^2/eta_max)*W",
    ),
    System(
        name="mosaicml.DecoupledAdamW",
        kind="relative",
        update="(1 - c*eta_t/eta_init)*W - eta_t*adam(g)",
        source="composer/optim/decoupled_weight_decay.py",
        optimizer="adam",
    ),
    System(
        name="mxnet.SGD",
        kind="coupled",
        update="W - velocity(eta_t*(clip(g) + c*W))",
        source="mxnet/optimizer/sgd.py",
        optimizer="sgd",
        velocity="inside",
        note="it decays only parameters whose name ends in _weight or _gamma",
    ),
    System(
        name="paddle.L2Decay",
        kind="coupled",
        update="W - step(clip(g) + c*W)",
        source="paddle/regularizer.py",
        velocity="outside",
    ),
    System(
        name="caffe",
        kind="coupled",
        update="W - velocity(eta_t*(clip(g) + c*W))",
        source="caffe/solvers/sgd_solver.cpp",
        optimizer="sgd",
        velocity="inside",
        note="c is weight_decay times the decay_mult of the parameter",
    ),
    System(
        name="fastai",
        kind="decoupled",
        update="(1 - eta_t*c)*W - step(g)",
        source="fastai/optimizer.py",
        velocity="outside",
        note="decouple_wd=True, its default",
    ),
    System(
        name="fastai.l2_reg",
        kind="coupled",
        update="W - step(g + c*W)",
        source="fastai/optimizer.py",
        velocity="outside",
        note="decouple_wd=False",
    ),
    System(
        name="sklearn.Ridge",
        kind="coupled",
        update="sum((y - Xw)^2) + c*sum(w^2)",
        source=_RIDGE,
        scale=Scale(factor=2.0, per="num_samples"),
        clipped=None,
        note='lam is for Keras\' "mse" of one target, the mean of squares',
    ),
    System(
        name="sklearn.Ridge.half_mean",
        kind="coupled",
        update="sum((y - Xw)^2) + c*sum(w^2)",
        source=_RIDGE,
        scale=Scale(per="num_samples"),
        clipped=None,
        note="lam is for the mean of half squares",
    ),
    System(
        name="sklearn.Ridge.sum",
        kind="coupled",
        update="sum((y - Xw)^2) + c*sum(w^2)",
        source=_RIDGE,
        scale=Scale(factor=2.0),
        clipped=None,
        note="lam is for the sum of squares",
    ),
    System(
        name="sklearn.LogisticRegression",
        kind="coupled",
        update="mean(loss) + sum(w^2)/(2*c*num_samples)",
        source="sklearn/linear_model/_logistic.py",
        scale=Scale(per="num_samples", reciprocal=True),
        clipped=None,
    ),
    System(
        name="sklearn.MLPClassifier",
        kind="coupled",
        update="g + c*W/batch_size",
        source="sklearn/neural_network/_multilayer_perceptron.py",
        scale=Scale(per="batch_size"),
        velocity="inside",
        clipped=None,
        note="it divides a last, smaller batch by its own size; for lbfgs that is num_samples",
    ),
    System(
        name="xgboost.lambda",
        kind="coupled",
        update="sum(loss) + (c/2)*sum(w^2)",
        source="xgboost/src/tree/param.h",
        scale=Scale(per="num_samples"),
        clipped=None,
        note=f"w are the leaves of a tree; its loss is {_SUM}, and its squared error is halved",
    ),
    System(
        name="xgboost.lambda.gblinear",
        kind="coupled",
        update="sum(loss) + (c/2)*num_samples*sum(w^2)",
        source="xgboost/src/linear/param.h",
        clipped=None,
        note="its squared error is halved",
    ),
)

_BY_NAME = {system.name: system for system in SYSTEMS}


def find(name: object, argument: str) -> System:
    """The system called `name`, or a ValueError with the nearest names."""
    if isinstance(name, str) and name in _BY_NAME:
        return _BY_NAME[name]
    lowered = {known.lower(): known for known in _BY_NAME}
    near = _validation.nearest(str(name).lower(), lowered, count=1)[0]
    raise ValueError(
        _validation.error(
            f"`{argument}` must be the name of a system.",
            f"{argument}={name!r}",
            f'Did you mean "{lowered[near]}"? l2keras.conventions() lists them.',
        )
    )
