"""`fit` of the experiments against a bare loop: `python -m benchmarks.fit_overhead`.

The same compiled train function on the same batches, called by `fit` and by a Python loop that
does nothing else. The two take turns; the ratio of the medians should be at most 1.15.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from experiments import device
from experiments.schema import Config

ROUNDS = 9


def main() -> None:
    """Prints the seconds of both and their ratio."""
    config = Config()
    config.data.num_train, config.data.label_noise = 600, 0.4
    device.set_up(config)

    import keras

    from experiments import pipeline
    from experiments.data import load_data
    from experiments.models import build_model
    from l2keras import HalfL2

    data = load_data(config.data, config.seed, "float32")
    training = config.training
    epochs, steps = (
        training.epochs,
        pipeline.steps_per_epoch(len(data.x_train), training.batch_size),
    )

    def batches() -> Any:
        return pipeline.training_batches(data, training.batch_size, 0, range(epochs))

    model = build_model(config.model, data, HalfL2(0.01), seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.2), loss, metrics=["accuracy"], jit_compile=False)

    def fit() -> None:
        model.fit(batches(), epochs=epochs, steps_per_epoch=steps, shuffle=False, verbose=0)

    def loop() -> None:
        iterator = iter(batches())
        for _ in range(epochs):
            for _ in range(steps):
                logs = model.train_function(iterator)
            {key: float(value) for key, value in logs.items()}

    fit()  # traces
    seconds: dict[str, list[float]] = {"fit": [], "loop": []}
    for _ in range(ROUNDS):
        for name, run in (("fit", fit), ("loop", loop)):
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{epochs} epochs of {steps} steps: fit {medians['fit']:.3f} s, ", end="")
    print(f"loop {medians['loop']:.3f} s, ratio {medians['fit'] / medians['loop']:.2f}")


if __name__ == "__main__":
    main()
