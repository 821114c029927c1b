"""Measures what decay of a large embedding adds to a step: `python -m benchmarks.lazy_embedding`.

The table has 1,000,000 x 64 weights, and a batch reads 1,000 rows, under SGD in the graph mode of
TensorFlow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import l2keras
from benchmarks.cases import steps
from benchmarks.kit import command
from benchmarks.kit.result import Result, Rows, Section, section_of
from benchmarks.kit.timing import Turn, once, paired, timed

ROWS, WIDTH, BATCH = 1_000_000, 64, 1_000
LAM = 1e-3


def build(decay: Sequence[Any]) -> Turn:
    """Returns the training steps on batches of random rows."""
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
    return once(lambda: function(iterator))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and publishes."""
    asked = command.parser(__doc__, rounds=20).parse_args(arguments)
    origin = command.origin("lazy_embedding", arguments)
    lazy = l2keras.WeightDecay(LAM, lazy=True)
    builds: dict[str, Callable[[], Turn]] = {
        "no decay": partial(build, ()),
        "dense decay": partial(build, [l2keras.WeightDecay(LAM)]),
        "lazy decay": partial(build, [lazy]),
    }
    timings = paired(builds, asked.rounds, builds=1)
    title = f"{ROWS:,} x {WIDTH} Embedding, {BATCH:,} rows a batch"
    settle: Rows = {"decay of all rows": [1e3 * timed(lazy.settle)[0]]}
    sections = [
        section_of(title, timings, f"SGD, lambda = {LAM}; {asked.rounds} rounds."),
        Section("Once an epoch, lazy decay", {"ms": ".0f"}, settle),
    ]
    name = "What decay of a large embedding adds to a step"
    result = Result("lazy_embedding", name, origin, list(map(command.shown, sections)))
    command.publish(result, asked.results)


if __name__ == "__main__":
    main()
