"""Many lambdas at once against fits one by one: `KERAS_BACKEND=... python -m benchmarks.sweep`.

Three sides take turns in one process, each with its own tracing and compiling:

- a plain `model.fit(x, y)` on NumPy arrays, of one member;
- the best loop of fits known: `tf.data` in memory, autotune off, batches cut beforehand; some of
  its fits are timed, and the loop over all members takes as many times longer;
- `l2keras.sweep` of all members; beside it, for dense models, the matrix products of its steps
  alone (`benchmarks.products`): less time than that it cannot take.

The members of the loop that are timed are then compared with those of the sweep after five epochs,
in float32 and in float64, where rounding has no time to grow. Writes
benchmarks/results/sweep_<backend>.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import l2keras
from benchmarks import products
from benchmarks.stepcost import machine
from experiments.sources import SOURCES

RESULTS = Path(__file__).parent / "results"
BACKEND = keras.backend.backend()
RATE, MOMENTUM = 0.05, 0.9


@dataclass(frozen=True)
class Case:
    """What is trained. `looped` fits of the loop are timed in each round.

    Goals: `throughput`, at least, over the best loop; all within `one_fit`, where that is asked.
    """

    title: str
    data: str
    examples: int  # a multiple of the batch size
    build: Callable[[], Any]
    lams: int
    seeds: int
    epochs: int
    throughput: float
    one_fit: bool = False
    batch_size: int = 32
    looped: int = 4

    @property
    def members(self) -> int:
        return self.lams * self.seeds

    @property
    def steps(self) -> int:
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


CASES = {
    "mlp_32": Case("digits MLP, 32 lambdas", "digits", 1184, _mlp, 32, 1, 30, 10, one_fit=True),
    "mlp_64x3": Case("digits MLP, 64 lambdas x 3 seeds", "digits", 1184, _mlp, 64, 3, 30, 10),
    "cnn_16": Case(
        "small CNN on mnist5k, 16 lambdas", "mnist5k", 3968, _cnn, 16, 1, 3, 2, looped=2
    ),
}


class Sides:
    """The three sides of a case, on the same examples, lambdas and initial weights."""

    def __init__(self, case: Case) -> None:
        self.case = case
        source = SOURCES[case.data]
        (x, y), _ = source.load()
        x = x[: case.examples] / np.float32(source.white)
        self.x = x.astype(keras.config.floatx()).reshape(-1, *case.build().input_shape[1:])
        self.y = y[: case.examples].reshape(-1).astype("int32")
        self.lams = np.geomspace(1e-5, 1e-1, case.lams).tolist()
        self.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        step = max(1, len(self.lams) // case.looped)
        self.timed = list(range(0, len(self.lams), step))[: case.looped]

    def plain(self) -> None:
        model = self._compiled(self.lams[0])
        model.fit(self.x, self.y, self.case.batch_size, self.case.epochs, verbose=0)

    def looped(self) -> list[list[np.ndarray]]:
        """The weights of the fits that are timed."""
        return [self._fit_alone(self.lams[number]) for number in self.timed]

    def swept(self) -> l2keras.SweepResult:
        case = self.case
        return l2keras.sweep(
            case.build, self.lams, self.x, self.y, optimizer=_optimizer(), loss=self.loss,
            metrics=["accuracy"], epochs=case.epochs, batch_size=case.batch_size,
            seeds=list(range(case.seeds)), verbose=0,
        )  # fmt: skip

    def _fit_alone(self, lam: float) -> list[np.ndarray]:
        import tensorflow as tf

        case = self.case
        orders = [
            np.random.default_rng([0, e]).permutation(len(self.x)) for e in range(case.epochs)
        ]
        rows = np.concatenate(orders)
        model = self._compiled(lam)
        options = tf.data.Options()
        options.autotune.enabled = False
        batches = tf.data.Dataset.from_tensor_slices((self.x[rows], self.y[rows]))
        batches = batches.batch(case.batch_size, drop_remainder=True).with_options(options)
        steps = len(self.x) // case.batch_size
        model.fit(batches, epochs=case.epochs, steps_per_epoch=steps, verbose=0)
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


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    keras.utils.clear_session(free_memory=False)
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


@dataclass(frozen=True)
class Found:
    """Seconds, medians of all rounds: `fit` of one fit of the loop, `products` where known."""

    plain: float
    fit: float
    swept: float
    products: float | None
    notes: str

    def throughput(self, case: Case) -> float:
        """Of the sweep, over that of the best loop."""
        return case.members * self.fit / self.swept


def measure(case: Case, rounds: int) -> Found:
    """The sides take turns."""
    sides = Sides(case)
    sides.plain()  # what is imported and initialized at the first fit counts for nobody
    kernels = products.kernels_of(case.build())
    plain, looped, swept, least = [], [], [], []
    for _ in range(rounds):
        plain.append(_timed(sides.plain)[0])
        looped.append(_timed(sides.looped)[0] / len(sides.timed))
        seconds, result = _timed(sides.swept)
        swept.append(seconds)
        if kernels:
            step = products.seconds(kernels, case.members, case.batch_size)
            least.append(case.steps * step)
    one, fit, all_at_once = (statistics.median(side) for side in (plain, looped, swept))
    known = statistics.median(least) if least else None
    return Found(one, fit, all_at_once, known, "; ".join(result.notes))


def section(case: Case, found: Found, rounds: int) -> Iterator[str]:
    """What was found for a case, in lines of Markdown."""
    yield f"## {case.title}\n"
    yield (
        f"{case.examples} examples, batches of {case.batch_size}, {case.epochs} epochs, SGD with "
        f"momentum; {rounds} rounds, medians. {found.notes}.\n"
    )
    loop = case.members * found.fit
    rows = {
        "one plain `fit(x, y)`": found.plain,
        "a fit of the best loop": found.fit,
        f"the best loop, {case.members} fits": loop,
        f"`sweep`, {case.members} members": found.swept,
    }
    if found.products:
        rows["the matrix products of its steps alone"] = found.products
    yield "| | seconds | of one plain fit |\n|---|---|---|"
    for name, seconds in rows.items():
        yield f"| {name} | {seconds:.2f} | {seconds / found.plain:.2f} |"
    yield f"\n- Per member: {1000 * found.swept / case.members:.0f} ms."
    if found.products:
        kernels = products.kernels_of(case.build())
        operations = case.steps * products.operations(kernels, case.members, case.batch_size)
        speed = operations / found.products / 1e9
        yield f"- The products are {operations / 1e9:.0f} GFLOP, at {speed:.0f} GFLOP/s."
    ratio, goal = found.throughput(case), case.throughput
    yield f"- {ratio:.1f} times the throughput of the best loop, of {goal}: {_told(ratio >= goal)}."
    if case.one_fit:
        yield f"- All in the time of one plain fit: {_told(found.swept <= found.plain)}."
        if found.products and found.swept > found.plain:
            yield f"- Its products alone take {found.products / found.plain:.2f} plain fits."
    for dtype in ("float32", "float64"):
        apart = ", ".join(f"{one:.0e}" for one in distances(case, dtype))
        yield f"- Largest difference of a weight, sweep and loop, {dtype}, 5 epochs: {apart}."
    yield ""


def _told(met: bool) -> str:
    return "met" if met else "**not met**"


def distances(case: Case, dtype: str) -> list[float]:
    """Of each member that the loop trains. In float32 kinks (ReLU, maxima) may let them grow."""
    with _floats_of(dtype):
        sides = Sides(replace(case, epochs=5))
        result = sides.swept()
        return [
            _distance(result.weights[number * case.seeds], weights)
            for number, weights in zip(sides.timed, sides.looped(), strict=True)
        ]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    path = RESULTS / f"sweep_{BACKEND}.md"
    lines = [f"# Many lambdas at once, on {BACKEND}\n", f"{machine.described()}.\n"]
    for name in asked.case:
        case = CASES[name]
        for line in section(case, measure(case, asked.rounds), asked.rounds):
            print(line, flush=True)
            lines.append(line)
    if asked.case == list(CASES):
        RESULTS.mkdir(exist_ok=True)
        path.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
