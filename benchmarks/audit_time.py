"""Measures `l2keras.audit` against `model.summary()`: `python -m benchmarks.audit_time`.

The model has 1,000 variables, each with a regularizer or a decaying optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

import l2keras
from benchmarks.kit import command
from benchmarks.kit.result import Result, goal, section_of
from benchmarks.kit.timing import paired_calls

LAYERS, LIMIT = 500, 1.0
AUDIT = "`audit`"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, judges and publishes."""
    asked = command.parser(__doc__, rounds=9).parse_args(arguments)
    origin = command.origin("audit_time", arguments)
    layers = [keras.layers.Dense(4, kernel_regularizer="l2") for _ in range(LAYERS)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.AdamW(weight_decay=1e-4), "mse")

    def discard(*lines: Any, **options: Any) -> None:
        return None

    functions: dict[str, Callable[[], object]] = {
        "`model.summary()`": lambda: model.summary(print_fn=discard),
        AUDIT: lambda: l2keras.audit(model),
        "`audit`, printed": lambda: str(l2keras.audit(model)),
    }
    timings = paired_calls(functions, asked.rounds)
    seconds = timings.median(AUDIT)
    interval = timings.interval(lambda t: t.median(AUDIT) - LIMIT)
    title = f"{len(model.weights):,} variables"
    sections = [command.shown(section_of(title, timings, f"{asked.rounds} rounds."))]
    goals = [goal(AUDIT, title, seconds, LIMIT, ".3f", "s", interval=interval)]
    result = Result("audit_time", "How long an audit takes", origin, sections, goals)
    command.publish(result, asked.results)


if __name__ == "__main__":
    main()
