"""The three sides that take turns, and how far the weights that they end with are apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras
import numpy as np

import l2keras
from benchmarks.sweepcost.cases import Case
from experiments.sources import SOURCES
from l2keras._sweep import evaluation

BACKEND = keras.backend.backend()
RATE, MOMENTUM = 0.05, 0.9
NUDGE = 2.0**-23  # float32: from 1 to the next number


class Sides:
    """The three sides of a case, on the same examples, lambdas and initial weights."""

    def __init__(self, case: Case) -> None:
        self.case = case
        source = SOURCES[case.data]
        shape = case.build().input_shape[1:]

        def prepared(x: Any, y: Any) -> tuple[Any, Any]:
            x = (x / np.float32(source.white)).astype(keras.config.floatx())
            return x.reshape(-1, *shape), y.reshape(-1).astype("int32")

        (x, y), test = source.load()
        self.x, self.y = prepared(x[: case.examples], y[: case.examples])
        self.validation = prepared(*test) if case.validated else None
        self.lams = np.geomspace(1e-5, 1e-1, case.lams).tolist()
        self.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        step = max(1, len(self.lams) // case.looped)
        self.timed = list(range(0, len(self.lams), step))[: case.looped]

    def plain(self) -> None:
        model = self._compiled(self.lams[0])
        model.fit(
            self.x, self.y, self.case.batch_size, self.case.epochs, verbose=0,
            validation_data=self.validation,
        )  # fmt: skip

    def looped(self, nudge: float = 0.0) -> list[list[np.ndarray]]:
        """The weights of the fits that are timed; the first ones are multiplied by 1 + `nudge`."""
        return [self._fit_alone(self.lams[number], nudge) for number in self.timed]

    def swept(self) -> l2keras.SweepResult:
        case = self.case
        return l2keras.sweep(
            case.build, self.lams, self.x, self.y, optimizer=_optimizer(), loss=self.loss,
            metrics=["accuracy"], epochs=case.epochs, batch_size=case.batch_size,
            seeds=list(range(case.seeds)), verbose=0, validation_data=self.validation,
        )  # fmt: skip

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


def _optimizer() -> Any:
    return keras.optimizers.SGD(RATE, momentum=MOMENTUM)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    keras.utils.clear_session(free_memory=False)
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def distances(case: Case, dtype: str) -> list[float]:
    """Of each member that is fitted too: the largest difference of a weight, after five epochs."""
    with _floats_of(dtype):
        sides = Sides(replace(case, epochs=5))
        result = sides.swept()
        swept = [result.weights[number * case.seeds] for number in sides.timed]
        return list(map(_distance, swept, sides.looped()))


def sensitivity(case: Case) -> list[float]:
    """How far fits end from themselves, in float32, when they begin one rounding away."""
    sides = Sides(replace(case, epochs=5))
    return list(map(_distance, sides.looped(nudge=NUDGE), sides.looped()))


@contextmanager
def _floats_of(dtype: str) -> Iterator[None]:
    """Models, optimizers and data of `dtype` inside the block, of float32 after it."""
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
