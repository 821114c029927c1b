"""Measures `fit` of the experiments against a bare loop: `python -m benchmarks.fit_overhead`.

A Python loop and `fit` call the same compiled train function on the same batches, in turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.kit import command
from benchmarks.kit.result import Result, goal, section_of
from benchmarks.kit.timing import paired_calls
from l2keras_experiments.config.schema import Config
from l2keras_experiments.runtime import device

LIMIT = 1.15
LOOP, FIT = "loop over batches", "`fit`"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, judges and publishes."""
    asked = command.parser(__doc__, rounds=9).parse_args(arguments)
    config = Config()
    config.data.num_train, config.data.label_noise = 600, 0.4
    device.set_up(config)

    import keras

    from l2keras_experiments.data.batches import steps_per_epoch, training_batches
    from l2keras_experiments.data.datasets import load_data
    from l2keras_experiments.training.models import build_model
    from l2keras_experiments.training.regularization import build_method

    origin = command.origin("fit_overhead", arguments)
    data = load_data(config.data, config.seed, "float32")
    epochs, size = config.training.epochs, config.training.batch_size
    steps = steps_per_epoch(data.num_train, size)

    def batches() -> Any:
        return training_batches(data, size, 0, range(epochs))

    model = build_model(config.model, data, build_method(config), seed=0)
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

    fit()  # makes and traces the train function
    timings = paired_calls({LOOP: loop, FIT: fit}, asked.rounds)
    ratio = timings.median(FIT) / timings.median(LOOP)
    interval = timings.interval(lambda t: t.median(FIT) / t.median(LOOP) - LIMIT)
    title = f"{epochs} epochs of {steps} steps"
    sections = [command.shown(section_of(title, timings, f"{asked.rounds} rounds."))]
    goals = [goal("ratio of `fit` to the loop", title, ratio, LIMIT, interval=interval)]
    result = Result("fit_overhead", "What `fit` adds to a bare loop", origin, sections, goals)
    command.publish(result, asked.results)


if __name__ == "__main__":
    main()
