"""What a penalty's time is made of on TensorFlow's graph: the operations, one by one.

They explain what HalfL2 cannot save there: lam * W is written out and read again, as the sum with
the gradient of the loss is an operation of its own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.stepcost.variants import LAM

ROUNDS = 15


def measured(variables: Sequence[Any]) -> dict[str, float]:
    """Seconds of each operation on all of `variables`, which take turns; medians."""
    import tensorflow as tf

    weights = [variable.value for variable in variables]
    grads = [tf.ones_like(weight) for weight in weights]
    operations: dict[str, Callable[[], list[Any]]] = {
        "HalfL2: sum(W^2)/2": lambda: [tf.nn.l2_loss(w) for w in weights],
        "Keras L2: sum(square(W))": lambda: [tf.reduce_sum(tf.square(w)) for w in weights],
        "HalfL2: lam*W": lambda: [LAM * w for w in weights],
        "both: gradient + lam*W": lambda: [g + w for g, w in zip(grads, weights, strict=True)],
    }
    graphs = {name: tf.function(function) for name, function in operations.items()}
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(ROUNDS + 1):
        for name, graph in graphs.items():
            start = time.perf_counter()
            graph()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}
