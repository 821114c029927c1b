"""`l2keras.audit` against `model.summary()`: `python -m benchmarks.audit_time`.

1,000 variables, each with a regularizer or a decaying optimizer; the two take turns, and the
ratio of the medians is printed. An audit should take less than a second.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

ROUNDS = 9
LAYERS = 500


def main() -> None:
    """Prints the seconds of both and their ratio."""
    import keras

    import l2keras

    layers = [keras.layers.Dense(4, kernel_regularizer="l2") for _ in range(LAYERS)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.AdamW(weight_decay=1e-4), "mse")

    def discard(*lines: Any, **options: Any) -> None:
        return None

    jobs: dict[str, Callable[[], Any]] = {
        "audit": lambda: l2keras.audit(model),
        "audit printed": lambda: str(l2keras.audit(model)),
        "summary": lambda: model.summary(print_fn=discard),
    }
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{len(model.weights)} variables: ", end="")
    print(", ".join(f"{name} {value:.3f} s" for name, value in medians.items()), end="; ")
    print(f"audit / summary {medians['audit'] / medians['summary']:.2f}")


if __name__ == "__main__":
    main()
