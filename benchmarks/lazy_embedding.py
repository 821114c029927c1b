"""What decay of a large embedding adds to a step: `python -m benchmarks.lazy_embedding`.

A table of 1,000,000 x 64 under SGD, 1,000 rows a batch, TensorFlow graph mode. The variants live
in one process and take turns; each figure is a median, and each ratio is of one run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import l2keras
from benchmarks.stepcost import steps

ROWS, WIDTH, BATCH = 1_000_000, 64, 1_000
LAM = 1e-3
ROUNDS, STEPS = 20, 5

VARIANTS: dict[str, Callable[[], list[Any]]] = {
    "none": list,
    "dense": lambda: [l2keras.WeightDecay(LAM)],
    "lazy": lambda: [l2keras.WeightDecay(LAM, lazy=True)],
}


def compiled_step(decay: list[Any]) -> Callable[[], None]:
    """One training step on batches of random rows, as `fit` runs it, traced."""
    import tensorflow as tf

    embedding = keras.layers.Embedding(ROWS, WIDTH)
    layers = [embedding, keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((1,), dtype="int32"), *layers])
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    ids = np.random.default_rng(0).integers(0, ROWS, (50 * BATCH, 1)).astype("int32")
    data = tf.data.Dataset.from_tensor_slices((ids, np.zeros((len(ids), 1), "float32")))
    options = tf.data.Options()
    options.autotune.enabled = False
    data = data.batch(BATCH).cache().repeat().with_options(options)
    function = steps.train_function(model, decay, data, steps_per_epoch=2)
    iterator = iter(data)
    return lambda: function(iterator)


def main() -> None:
    """Prints milliseconds a step, what each form adds, and the ratio of the two."""
    decays = {name: make() for name, make in VARIANTS.items()}
    taken = {name: compiled_step(decay) for name, decay in decays.items()}
    times: dict[str, list[float]] = {name: [] for name in taken}
    for _ in range(ROUNDS):
        for name, step in taken.items():
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            times[name].append((time.perf_counter() - start) / STEPS * 1000)
    medians = {name: statistics.median(values) for name, values in times.items()}
    start = time.perf_counter()
    decays["lazy"][0].settle()
    settle = (time.perf_counter() - start) * 1000
    for name, value in medians.items():
        print(f"{name:8}{value:8.2f} ms/step{value - medians['none']:9.2f} added")
    added = {name: value - medians["none"] for name, value in medians.items()}
    print(f"added, dense / lazy {added['dense'] / added['lazy']:8.1f}")
    print(f"step, dense / lazy  {medians['dense'] / medians['lazy']:8.1f}")
    print(f"all rows, once an epoch {settle:.0f} ms")


if __name__ == "__main__":
    main()
