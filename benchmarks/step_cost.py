"""What a penalty or a decay adds to a training step: `python -m benchmarks.step_cost`.

A 3x2048 MLP with momentum SGD on batches of 8, TensorFlow graph mode. All variants live in one
process and take turns step by step; each figure is a median, and each ratio is of one run.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import l2keras

LAM = 1e-4
ROUNDS, STEPS = 40, 5
BUILTIN = "keras L2(lam/2)"

Variant = tuple[Any, float | None, list[Any]]  # regularizer, optimizer weight_decay, callbacks
VARIANTS: dict[str, Callable[[], Variant]] = {
    "none": lambda: (None, None, []),
    BUILTIN: lambda: (keras.regularizers.L2(LAM / 2), None, []),
    "HalfL2(lam)": lambda: (l2keras.HalfL2(LAM), None, []),
    "optimizer weight_decay": lambda: (None, LAM, []),
    "WeightDecay(lam)": lambda: (None, None, [l2keras.WeightDecay(LAM)]),
    "WeightDecay(lam, coupled)": lambda: (
        None,
        None,
        [l2keras.WeightDecay(LAM, coupling="coupled")],
    ),
}


def build(variant: Variant) -> Any:
    """The compiled model of a variant."""
    regularizer, weight_decay, _ = variant
    hidden = [keras.layers.Dense(2048, "relu", kernel_regularizer=regularizer) for _ in range(3)]
    model = keras.Sequential(
        [keras.Input((2048,)), *hidden, keras.layers.Dense(10, kernel_regularizer=regularizer)]
    )
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=weight_decay)
    model.compile(optimizer, "mse", jit_compile=False)
    return model


class Pause(keras.callbacks.Callback):
    """Hands the compiled step out of `fit` and keeps `fit` from tearing it down."""

    step: Any = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step = self.model.train_function


def compiled_step(variant: Variant) -> Callable[[], None]:
    """One training step of the variant, as `fit` runs it, traced."""
    import tensorflow as tf

    model = build(variant)
    x = np.random.default_rng(0).normal(size=(8, 2048)).astype("float32")
    y = np.zeros((8, 10), "float32")
    data = tf.data.Dataset.from_tensors((x, y)).repeat()
    options = tf.data.Options()
    options.autotune.enabled = False
    data = data.with_options(options)
    pause = Pause()
    model.fit(data, steps_per_epoch=2, shuffle=False, verbose=0, callbacks=[*variant[2], pause])
    iterator = iter(data)
    return lambda: pause.step(iterator)


def measure() -> dict[str, float]:
    """Median milliseconds of a step of each variant, the variants taking turns."""
    steps = {name: compiled_step(make()) for name, make in VARIANTS.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            times[name].append((time.perf_counter() - start) / STEPS * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Prints milliseconds, what each variant adds, and that as a ratio to the built-in's."""
    medians = measure()
    builtin = medians[BUILTIN] - medians["none"]
    print(f"{'':28}{'ms/step':>8}{'added':>8}{'/ built-in':>12}")
    for name, value in medians.items():
        added = value - medians["none"]
        print(f"{name:28}{value:8.1f}{added:8.1f}{added / builtin:12.2f}")


if __name__ == "__main__":
    main()
