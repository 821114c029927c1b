"""Other systems, run: torch, optax and TensorFlow themselves, and published updates in NumPy.

Each entry of OTHERS trains the kernel of `dense_model` for 100 steps on the same batches with
the coefficient that it is called with, and returns it as an array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import torch

from tests.support.models import dense_model, kernel, linear_gradient, random_data
from tests.support.reference_updates import References

STEPS = 100
BATCH_SIZE = 4
ETA = 0.0625
MOMENTUM = 0.875
BETAS = (0.875, 0.96875)
EPSILON = 1e-30
DATA = random_data(STEPS * BATCH_SIZE)


def linear_rate(step: int) -> float:
    """A schedule that is exact in float32."""
    return ETA * (1 - step / 128)


def batches() -> list[tuple[Any, Any]]:
    """The 100 batches, in order."""
    inputs, targets = (np.split(array, STEPS) for array in DATA)
    return list(zip(inputs, targets, strict=True))


def with_torch(make: Callable[[list[Any]], Any]) -> Any:
    """The kernel after the steps of an optimizer of torch."""
    weight = torch.nn.Parameter(torch.tensor(kernel(dense_model()), dtype=torch.float64))
    optimizer = make([weight])
    for inputs, targets in batches():
        optimizer.zero_grad()
        ((torch.tensor(inputs) @ weight - torch.tensor(targets)) ** 2).mean().backward()
        optimizer.step()
    return weight.detach().numpy()


def with_optax(*chain: Any) -> Any:
    """The kernel after the steps of a chain of optax."""
    transformation = optax.chain(*chain)

    @jax.jit
    def step(weight: Any, state: Any, inputs: Any, targets: Any) -> tuple[Any, Any]:
        loss = lambda weight: ((inputs @ weight - targets) ** 2).mean()  # noqa: E731 for jax.grad
        updates, state = transformation.update(jax.grad(loss)(weight), state, weight)
        return optax.apply_updates(weight, updates), state

    with jax.enable_x64(True):
        weight = jax.numpy.asarray(kernel(dense_model()))
        state = transformation.init(weight)
        for inputs, targets in batches():
            weight, state = step(weight, state, inputs, targets)
    return np.asarray(weight)


def with_l2_loss(c: float) -> Any:
    """The kernel after plain steps along the gradient of mean squares + c * tf.nn.l2_loss."""
    import tensorflow as tf

    @tf.function
    def step(weight: Any, inputs: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(weight)
            loss = tf.reduce_mean((inputs @ weight - targets) ** 2) + c * tf.nn.l2_loss(weight)
        return weight - ETA * tape.gradient(loss, weight)

    weight = tf.constant(kernel(dense_model()))
    for inputs, targets in batches():
        weight = step(weight, tf.constant(inputs), tf.constant(targets))
    return weight.numpy()


def torch_sgd(c: float, **options: Any) -> Any:
    return with_torch(lambda kernels: torch.optim.SGD(kernels, ETA, weight_decay=c, **options))


def torch_adam(c: float, which: Any = torch.optim.Adam) -> Any:
    return with_torch(lambda kernels: which(kernels, ETA, BETAS, EPSILON, weight_decay=c))


def torch_scheduled(c: float) -> Any:
    """torch's momentum with the same schedule: it keeps the rate outside the velocity."""

    class Scheduled(torch.optim.SGD):
        count = 0

        def step(self, closure: Any = None) -> Any:
            self.param_groups[0]["lr"] = linear_rate(self.count)
            self.count += 1
            return super().step(closure)

    return with_torch(lambda kernels: Scheduled(kernels, ETA, MOMENTUM, weight_decay=c))


ADAM = optax.scale_by_adam(*BETAS, EPSILON)
DESCENT = optax.scale(-ETA)
REAL: dict[tuple[str, str], Callable[[float], Any]] = {
    ("torch.SGD", "sgd"): torch_sgd,
    ("torch.SGD", "momentum"): lambda c: torch_sgd(c, momentum=MOMENTUM),
    ("torch.SGD", "nesterov"): lambda c: torch_sgd(c, momentum=MOMENTUM, nesterov=True),
    ("torch.SGD", "momentum, scheduled"): torch_scheduled,
    ("torch.Adam", "adam"): torch_adam,
    ("torch.AdamW", "adam"): lambda c: torch_adam(c, torch.optim.AdamW),
    ("optax.add_decayed_weights", "momentum"): lambda c: with_optax(
        optax.add_decayed_weights(c), optax.trace(MOMENTUM), DESCENT
    ),
    ("optax.add_decayed_weights", "adam"): lambda c: with_optax(
        optax.add_decayed_weights(c), ADAM, DESCENT
    ),
    ("optax.add_decayed_weights.after", "adam"): lambda c: with_optax(
        ADAM, optax.add_decayed_weights(c), DESCENT
    ),
    ("optax.add_decayed_weights.after", "momentum"): lambda c: with_optax(
        optax.trace(MOMENTUM), optax.add_decayed_weights(c), DESCENT
    ),
    ("optax.adamw", "adam"): lambda c: with_optax(
        optax.adamw(ETA, *BETAS, EPSILON, weight_decay=c)
    ),
    ("tf.l2_loss", "sgd"): with_l2_loss,
}


def by_hand(rule: Callable[[References, float], Any], optimizer: str) -> Callable[[float], Any]:
    """The kernel after the steps of a published update, written out in NumPy."""

    def train(c: float) -> Any:
        rate = linear_rate if "scheduled" in optimizer else lambda step: ETA
        references = References(
            rate, 0.0 if optimizer.startswith("sgd") else MOMENTUM, BETAS, STEPS
        )
        update = rule(references, c)
        weight = kernel(dense_model())
        for step, (inputs, targets) in enumerate(batches()):
            weight = update(weight, linear_gradient(weight, inputs, targets), step)
        return weight

    return train


PUBLISHED = {
    ("tfa.SGDW", "sgd"): References.tfa_sgdw,
    ("tfa.SGDW", "momentum"): References.tfa_sgdw,
    ("tfa.AdamW", "adam"): References.tfa_adamw,
    ("keras_adamw", "adam"): References.keras_adamw,
    ("hf.AdamWeightDecay", "adam, scheduled"): References.hf_adam_weight_decay,
    ("timm.AdamW", "adam, scheduled"): References.timm_adamw,
    ("mosaicml.DecoupledAdamW", "adam, scheduled"): References.mosaicml_adamw,
    ("mxnet.SGD", "momentum"): References.mxnet_sgd,
    ("mxnet.SGD", "momentum, scheduled"): References.mxnet_sgd,
    ("caffe", "momentum, scheduled"): References.caffe,
    ("paddle.L2Decay", "sgd, scheduled"): References.paddle_l2_decay,
    ("paddle.L2Decay", "momentum"): References.paddle_l2_decay,
    ("fastai", "momentum"): References.fastai,
    ("fastai.l2_reg", "momentum"): References.fastai_l2_reg,
}
OTHERS = {**REAL, **{key: by_hand(rule, key[1]) for key, rule in PUBLISHED.items()}}
