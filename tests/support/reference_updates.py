"""Published updates of systems that the tests do not install, written out by hand.

They are too heavy for a test (paddlepaddle is 195 MB; fastai and timm bring torchvision), or their
last release is for what the tests have left behind: Keras 2 (tensorflow_addons, keras_adamw),
transformers 4, torch 2.6 (mosaicml), NumPy 1 (mxnet). caffe has none.
test_conversion_against_paddle runs Paddle itself, where it is installed.

Each function is one optimizer: called with the weight, the gradient of the data loss at it and
the number of the step (from 0), it returns the next weight. Everything is NumPy in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

Update: TypeAlias = Callable[[Any, Any, int], Any]


@dataclass
class Adam:
    """arXiv 1412.6980, algorithm 1, without epsilon: the step for a gradient."""

    beta_1: float
    beta_2: float
    first: Any = 0.0
    second: Any = 0.0

    def __call__(self, gradient: Any, step: int) -> Any:
        self.first = self.beta_1 * self.first + (1 - self.beta_1) * gradient
        self.second = self.beta_2 * self.second + (1 - self.beta_2) * gradient**2
        first = self.first / (1 - self.beta_1 ** (step + 1))
        return first / np.sqrt(self.second / (1 - self.beta_2 ** (step + 1)))


@dataclass
class References:
    """One learning rate, momentum and pair of betas for all of them; `rate` gives eta_t."""

    rate: Callable[[int], float]
    momentum: float
    betas: tuple[float, float]
    num_steps: int
    velocity: Any = 0.0
    adam: Adam = field(init=False)

    def __post_init__(self) -> None:
        self.adam = Adam(*self.betas)

    def tfa_sgdw(self, c: float) -> Update:
        """tensorflow_addons weight_decay_optimizers.py: assign_sub(c * var), then Keras' SGD."""

        def update(weight: Any, gradient: Any, step: int) -> Any:
            decayed = weight - c * weight
            self.velocity = self.momentum * self.velocity - self.rate(step) * gradient
            return decayed + self.velocity

        return update

    def tfa_adamw(self, c: float) -> Update:
        """The same file: assign_sub(c * var), then Keras' Adam."""
        return lambda weight, gradient, step: (
            weight - c * weight - self.rate(step) * self.adam(gradient, step)
        )

    def keras_adamw(self, c: float) -> Update:
        """keras_adamw/utils.py: l2 * sqrt(1 / total_iterations) * var, eta_t = 1."""
        norm = math.sqrt(1 / self.num_steps)

        def update(weight: Any, gradient: Any, step: int) -> Any:
            stepped = weight - self.rate(step) * self.adam(gradient, step)
            return stepped - c * norm * weight

        return update

    def hf_adam_weight_decay(self, c: float) -> Update:
        """transformers/optimization_tf.py: assign_sub(learning_rate * var * rate), then Adam."""

        def update(weight: Any, gradient: Any, step: int) -> Any:
            decayed = weight - self.rate(step) * weight * c
            return decayed - self.rate(step) * self.adam(gradient, step)

        return update

    def timm_adamw(self, c: float) -> Update:
        """timm/optim/adamw.py: param.mul_(1 - lr * weight_decay), then Adam."""

        def update(weight: Any, gradient: Any, step: int) -> Any:
            decayed = weight * (1 - self.rate(step) * c)
            return decayed - self.rate(step) * self.adam(gradient, step)

        return update

    def mosaicml_adamw(self, c: float) -> Update:
        """composer/optim/decoupled_weight_decay.py: param.mul_(1 - lr / initial_lr * c)."""

        def update(weight: Any, gradient: Any, step: int) -> Any:
            decayed = weight * (1 - self.rate(step) / self.rate(0) * c)
            return decayed - self.rate(step) * self.adam(gradient, step)

        return update

    def mxnet_sgd(self, c: float) -> Update:
        """mxnet/optimizer/sgd.py: grad += wd * weight; mom = momentum * mom - lr * grad."""

        def update(weight: Any, gradient: Any, step: int) -> Any:
            self.velocity = self.momentum * self.velocity - self.rate(step) * (
                gradient + c * weight
            )
            return weight + self.velocity

        return update

    def caffe(self, c: float) -> Update:
        """caffe/solvers/sgd_solver.cpp: axpy(decay, data, diff); history = rate * diff + m * h."""

        def update(weight: Any, gradient: Any, step: int) -> Any:
            difference = c * weight + gradient
            self.velocity = self.rate(step) * difference + self.momentum * self.velocity
            return weight - self.velocity

        return update

    def paddle_l2_decay(self, c: float) -> Update:
        """paddle/regularizer.py, loss 0.5 * c * sum(x^2), with Momentum: rate outside it."""

        def update(weight: Any, gradient: Any, step: int) -> Any:
            self.velocity = self.momentum * self.velocity + (gradient + c * weight)
            return weight - self.rate(step) * self.velocity

        return update

    def fastai(self, c: float) -> Update:
        """fastai/optimizer.py, SGD: p.mul_(1 - lr * wd), average_grad, momentum_step."""

        def update(weight: Any, gradient: Any, step: int) -> Any:
            decayed = weight * (1 - self.rate(step) * c)
            self.velocity = self.velocity * self.momentum + gradient
            return decayed - self.rate(step) * self.velocity

        return update

    def fastai_l2_reg(self, c: float) -> Update:
        """The same file, decouple_wd=False: grad.add_(p, alpha=wd) first."""

        def update(weight: Any, gradient: Any, step: int) -> Any:
            self.velocity = self.velocity * self.momentum + (gradient + c * weight)
            return weight - self.rate(step) * self.velocity

        return update
