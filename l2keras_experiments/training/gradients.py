"""The two reference tables, live: those of TensorFlow and of torch.

TensorFlow's GradientTape and torch.optim.SGD compute them; HalfL2 computes them again from the
matching lambda; and the update W <- (1 - eta*lam)*W - eta*grad stands next to torch's step.
Exit status 1 on any difference.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass

import numpy as np

from l2keras_experiments.config import program
from l2keras_experiments.runtime import boundary, device

C = 0.9  # the coefficient that is pasted into both frameworks
ETA = 0.1
DECIMALS = 8

# The two tables of the reference procedure in inputs(), to 8 decimals.
TENSORFLOW_TABLE = np.array(
    [
        [2.6863001, 2.00429027, 2.61334972, 3.22526179, 2.22535517],
        [1.41717647, 2.05815579, 2.05865297, 2.24328504, 2.63034054],
        [2.85481325, 2.65063599, 2.85119176, 2.13211971, 2.20201325],
        [2.37606803, 2.4938795, 3.10095124, 2.13098311, 2.74585633],
    ]
)
PYTORCH_TABLE = np.array(
    [
        [2.29158508, 1.95058016, 2.25510989, 2.56106592, 2.06111261],
        [1.25926989, 1.57975955, 1.58000814, 1.67232418, 1.86585193],
        [2.20280346, 2.10071483, 2.20099271, 1.84145669, 1.87640346],
        [2.17063112, 2.22953686, 2.53307273, 2.04808866, 2.35552527],
    ]
)


@dataclass(frozen=True)
class Check:
    """A computed table beside the expected one."""

    title: str
    computed: np.ndarray
    expected: np.ndarray

    @property
    def difference(self) -> float:
        return float(np.max(np.abs(self.computed - self.expected)))

    @property
    def passed(self) -> bool:
        """Whether all entries agree to 8 decimals."""
        return bool(self.difference <= 0.5 * 10**-DECIMALS)


def inputs() -> tuple[np.ndarray, np.ndarray]:
    """x (3, 4) and W (4, 5), float64, of the reference procedure."""
    state = np.random.RandomState(123)
    return state.random_sample((3, 4)), state.random_sample((4, 5))


def tensorflow_gradient(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """d/dW [sum(x @ W) + sum(W^2) * c] by GradientTape."""
    import tensorflow as tf

    variable = tf.Variable(w)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.matmul(x, variable)) + tf.reduce_sum(tf.square(variable)) * C
    return np.asarray(tape.gradient(loss, variable))


def half_l2_gradient(x: np.ndarray, w: np.ndarray, lam: float) -> np.ndarray:
    """d/dW [sum(x @ W) + HalfL2(lam)(W)] by GradientTape."""
    import tensorflow as tf

    from l2keras import HalfL2

    variable = tf.Variable(w)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.matmul(x, variable)) + HalfL2(lam)(variable)
    return np.asarray(tape.gradient(loss, variable))


def torch_step(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step of torch.optim.SGD(weight_decay=c): data gradient, applied gradient, new W."""
    import torch

    weight = torch.nn.Parameter(torch.tensor(w))
    optimizer = torch.optim.SGD([weight], lr=ETA, weight_decay=C)
    (torch.tensor(x) @ weight).sum().backward()
    if weight.grad is None:
        raise RuntimeError("torch left no gradient on W.")
    gradient = weight.grad.detach().numpy().copy()
    optimizer.step()
    new = weight.detach().numpy().copy()
    return gradient, (w - new) / ETA, new


def l2keras_step(x: np.ndarray, w: np.ndarray, lam: float) -> np.ndarray:
    """One Keras step of plain SGD with WeightDecay(lam) on the same loss."""
    import keras

    from l2keras import WeightDecay

    keras.config.set_floatx("float64")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, use_bias=False)])
    model.set_weights([w])
    # The loss of the procedure: the sum of all outputs.
    model.compile(keras.optimizers.SGD(ETA), lambda y, p: keras.ops.sum(p) * keras.ops.ones(3))
    model.fit(x, np.zeros((3, 5)), batch_size=3, verbose=0, callbacks=[WeightDecay(lam)])
    return np.asarray(model.get_weights()[0])


def checks(with_torch: bool) -> list[Check]:
    """Every table computed beside what it must equal."""
    x, w = inputs()
    found = [
        Check(
            f"TensorFlow, loss + {C} * sum(W^2): gradient 2*{C}*W + grad",
            tensorflow_gradient(x, w),
            TENSORFLOW_TABLE,
        ),
        Check(f"HalfL2(lam={2 * C}), the same", half_l2_gradient(x, w, 2 * C), TENSORFLOW_TABLE),
        Check(f"HalfL2(lam={C}) against PyTorch's table", half_l2_gradient(x, w, C), PYTORCH_TABLE),
    ]
    if not with_torch:
        return found
    gradient, applied, new = torch_step(x, w)
    return [
        *found,
        Check(f"torch.optim.SGD(weight_decay={C}): gradient {C}*W + grad", applied, PYTORCH_TABLE),
        Check(
            f"(1 - {ETA}*{C})*W - {ETA}*grad against torch's step",
            (1 - ETA * C) * w - ETA * gradient,
            new,
        ),
        Check(f"Keras SGD + WeightDecay({C}) against torch's step", l2keras_step(x, w, C), new),
    ]


def main() -> int:
    """Prints every table with its largest difference; 1 if any is off."""
    parser = boundary.Parser(prog=program.command("check_grad"), description=__doc__)
    parser.parse_args()
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with_torch = importlib.util.find_spec("torch") is not None
    with device.quiet_imports():
        results = checks(with_torch)
    np.set_printoptions(precision=DECIMALS, suppress=True, linewidth=100)
    for check in results:
        verdict = "equal to 8 decimals" if check.passed else "DIFFERENT"
        print(f"{check.title}\n{check.computed}")
        print(f"  {verdict}; largest difference {check.difference:.1e}\n")
        if not check.passed:
            print(f"  expected\n{check.expected}\n")
    if not with_torch:
        print("torch is not installed: its table and its step were not computed here.")
        print('Install it with: pip install "l2keras[torch]"')
    return 0 if all(check.passed for check in results) else 1
