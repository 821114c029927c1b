"""The cases of `sweep`, and the trainings that it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

import l2keras
from benchmarks.kit.timing import timed
from l2keras._sweep import evaluation, programs
from l2keras_experiments.data import sources

BACKEND = keras.backend.backend()
RATE, MOMENTUM = 0.05, 0.9
NUDGE = 2.0**-23  # float32: from 1 to the next number
MAKERS = {  # of compiled programs
    "tensorflow": (programs.TensorFlow, "_program"),
    "jax": (programs.Jax, "steps"),
    "torch": (programs.Torch, "_recorded"),
}


@dataclass(frozen=True)
class Case:
    """A training; its goals are the throughput over a loop of fits, and the time of one fit."""

    title: str
    data: str
    examples: int  # a multiple of the batch size
    build: Callable[[], Any]
    lams: int
    seeds: int
    epochs: int
    throughput: float
    one_fit: bool = False  # whether the time of one fit is a goal
    validated: bool = False
    batch_size: int = 32
    looped: int = 4  # fits from a pipeline in each round

    @property
    def members(self) -> int:
        """The number of models that `sweep` trains."""
        return self.lams * self.seeds

    @property
    def steps(self) -> int:
        """The number of steps of each model."""
        return self.epochs * (self.examples // self.batch_size)


def _mlp() -> Any:
    """The MLP of configs/model/mlp.yaml."""
    dense = keras.layers.Dense
    return keras.Sequential([keras.Input((64,)), dense(128, "relu"), dense(128, "relu"), dense(10)])


def _cnn() -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((28, 28, 1)), layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D(),
         layers.Conv2D(16, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(),
         layers.Dense(10)]
    )  # fmt: skip


_MLP_32 = Case("digits MLP, 32 lambdas", "digits", 1184, _mlp, 32, 1, 30, 10, one_fit=True)
CASES = {
    "mlp_32": _MLP_32,
    "mlp_32_validated": replace(_MLP_32, title=f"{_MLP_32.title}, validated", validated=True),
    "mlp_32_long": replace(_MLP_32, title=f"{_MLP_32.title}, 100 epochs", epochs=100),
    "mlp_64x3": Case("digits MLP, 64 lambdas x 3 seeds", "digits", 1184, _mlp, 64, 3, 30, 10),
    "cnn_16": Case(
        "small CNN on mnist5k, 16 lambdas", "mnist5k", 3968, _cnn, 16, 1, 3, 2, looped=2
    ),
}


class Trainings:
    """The trainings of a case, on the same examples, lambdas and initial weights.

    Attributes:
        fitted: The indices of the lambdas that `looped` fits.
        notes: The notes of the last sweep.
        compiling: The seconds that each sweep spent on tracing and compiling.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        parts = getattr(sources, case.data)(keras.config.floatx())
        shape = case.build().input_shape[1:]

        def prepared(x: Any, y: Any) -> tuple[Any, Any]:
            return x.reshape(-1, *shape), y

        (x, y), test = parts["train"], parts["test"]
        self.x, self.y = prepared(x[: case.examples], y[: case.examples])
        self.validation = prepared(*test) if case.validated else None
        self.lams = np.geomspace(1e-5, 1e-1, case.lams).tolist()
        self.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        step = max(1, len(self.lams) // case.looped)
        self.fitted = list(range(0, len(self.lams), step))[: case.looped]
        self.notes = ""
        self.compiling: list[float] = []

    def plain(self) -> None:
        """Trains one member by `model.fit(x, y)` on NumPy arrays."""
        keras.utils.clear_session(free_memory=False)
        model = self._compiled(self.lams[0])
        model.fit(
            self.x, self.y, self.case.batch_size, self.case.epochs, verbose=0,
            validation_data=self.validation,
        )  # fmt: skip

    def looped(self, nudge: float = 0.0) -> list[list[np.ndarray]]:
        """Trains some members one by one from `tf.data`, batched before, without autotune.

        Args:
            nudge: The initial weights are multiplied by 1 + `nudge`.

        Returns:
            The trained weights of each member.
        """
        keras.utils.clear_session(free_memory=False)
        return [self._fit_alone(self.lams[number], nudge) for number in self.fitted]

    def swept(self) -> l2keras.SweepResult:
        """Trains all members by `l2keras.sweep`."""
        keras.utils.clear_session(free_memory=False)
        case = self.case
        with compile_times() as seconds:
            result = l2keras.sweep(
                case.build, self.lams, self.x, self.y, optimizer=_optimizer(), loss=self.loss,
                metrics=["accuracy"], epochs=case.epochs, batch_size=case.batch_size,
                seeds=list(range(case.seeds)), verbose=0, validation_data=self.validation,
            )  # fmt: skip
        self.compiling.append(sum(seconds))
        self.notes = "; ".join(result.notes)
        return result

    def _fit_alone(self, lam: float, nudge: float) -> list[np.ndarray]:
        import tensorflow as tf

        case = self.case
        orders = [
            np.random.default_rng([0, e]).permutation(len(self.x)) for e in range(case.epochs)
        ]
        rows = np.concatenate(orders)
        model = self._compiled(lam)
        model.set_weights([(1 + nudge) * weights for weights in model.get_weights()])
        options = tf.data.Options()
        options.autotune.enabled = False

        def pipeline(arrays: Any, width: int) -> Any:
            slices = tf.data.Dataset.from_tensor_slices(arrays)
            return slices.batch(width, drop_remainder=True).with_options(options)

        test = self.validation
        if test is not None:  # in batches as large as those of `sweep`, which leave no remainder
            width = evaluation.widest(case.batch_size, len(test[0]))
            assert len(test[0]) % width == 0
            test = pipeline(test, width)
        model.fit(
            pipeline((self.x[rows], self.y[rows]), case.batch_size), epochs=case.epochs, verbose=0,
            shuffle=False, steps_per_epoch=len(self.x) // case.batch_size, validation_data=test,
        )  # fmt: skip
        return list(model.get_weights())

    def _compiled(self, lam: float) -> Any:
        keras.utils.set_random_seed(0)
        model = self.case.build()
        l2keras.attach(model, l2keras.HalfL2(lam))
        jit = "auto" if BACKEND == "jax" else False
        model.compile(_optimizer(), self.loss, metrics=["accuracy"], jit_compile=jit)
        return model


@contextmanager
def compile_times() -> Iterator[list[float]]:
    """Yields a list that gets the seconds of each program that a sweep traces and compiles."""
    owner, name = MAKERS[BACKEND]
    make = getattr(owner, name)
    seconds: list[float] = []

    def timed_make(*arguments: Any) -> Any:
        elapsed, program = timed(lambda: make(*arguments))
        seconds.append(elapsed)
        return program

    setattr(owner, name, timed_make)
    try:
        yield seconds
    finally:
        setattr(owner, name, make)


def distances(case: Case, dtype: str) -> list[float]:
    """Returns the largest difference of a weight, sweep and fit, of each fitted member.

    Args:
        case: The case, of which five epochs are trained.
        dtype: The dtype of the models, the optimizers and the data.
    """
    with _floats_of(dtype):
        trainings = Trainings(replace(case, epochs=5))
        result = trainings.swept()
        swept = [result.weights[number * case.seeds] for number in trainings.fitted]
        return list(map(_distance, swept, trainings.looped()))


def sensitivity(case: Case) -> list[float]:
    """Returns the same for two fits in float32, one of which starts one rounding away."""
    trainings = Trainings(replace(case, epochs=5))
    return list(map(_distance, trainings.looped(nudge=NUDGE), trainings.looped()))


def _optimizer() -> Any:
    return keras.optimizers.SGD(RATE, momentum=MOMENTUM)


@contextmanager
def _floats_of(dtype: str) -> Iterator[None]:
    _set_floats(dtype)
    try:
        yield
    finally:
        _set_floats("float32")


def _set_floats(dtype: str) -> None:
    if BACKEND == "jax":
        import jax

        jax.config.update("jax_enable_x64", dtype == "float64")
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)


def _distance(actual: list[np.ndarray], expected: list[np.ndarray]) -> float:
    return max(float(np.max(np.abs(a - e))) for a, e in zip(actual, expected, strict=True))
