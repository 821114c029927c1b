"""Measures what a penalty or a decay adds to a training step: `python -m benchmarks.step_cost`.

No regularization, Keras' L2, HalfL2, the optimizer's weight_decay and WeightDecay in each coupling
take turns in one process, on six models. KERAS_BACKEND and --mode choose how the steps run. The
result is benchmarks/results/step_cost_<backend>_<mode>.json with its page and figure.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from benchmarks.cases import floor, memory, steps, variants
from benchmarks.cases.memory import Memory
from benchmarks.cases.models import LARGE, MODELS
from benchmarks.cases.variants import BUILTIN, COUPLED, DECOUPLED, HALF, LAM, NONE, OPTIMIZER
from benchmarks.kit import command
from benchmarks.kit.result import Goal, Result, Rows, Section, goal, rounds_of
from benchmarks.kit.timing import Timings, again, paired, paired_calls

BACKEND = keras.backend.backend()
COLUMNS = {
    "step, ms": ".2f",
    "added, ms": ".3f",
    "IQR, ms": ".3f",
    "of the built-in's": ".2f",
    "of the step": ".1%",
    "floor, MB": ".1f",
    "of the bandwidth": ".2f",
}
MEMORY = {"added peak, MB": ".1f", "added pages of files, MB": ".1f"}


@dataclass(frozen=True)
class TimeGoal:
    """The time that `name` adds to a step of `over` stays under a share of `of`.

    `of` is the time that a variant adds to a step of `none`; for `none` it is the step itself. The
    goal is one of all models, of the large one (`large=True`) or of the others (`large=False`).
    """

    text: str
    name: str
    share: float
    of: str
    large: bool | None = None
    over: str = NONE

    def sides(self, timings: Timings) -> tuple[float, float]:
        """Returns the measured seconds and their limit."""
        whole = timings.median(NONE) if self.of == NONE else timings.added(self.of)
        return timings.added(self.name, self.over), self.share * whole

    def on(self, model: str, timings: Timings) -> Goal:
        """Returns the goal on a model, with its verdict."""
        measured, limit = (1e3 * side for side in self.sides(timings))
        interval = timings.interval(lambda t: operator.sub(*self.sides(t)))
        title = MODELS[model].title
        return goal(self.text, title, measured, limit, ".3f", "ms", interval=interval)


GRAPH = (
    TimeGoal("HalfL2 adds at most half of the built-in's", HALF, 0.5, BUILTIN, large=True),
    TimeGoal("HalfL2 adds at most 0.8 of the built-in's", HALF, 0.8, BUILTIN, large=False),
    TimeGoal(
        "decoupled decay adds at most 0.3 of the built-in's", DECOUPLED, 0.3, BUILTIN, large=True
    ),
    TimeGoal("decoupled decay adds at most half of the optimizer's", DECOUPLED, 0.5, OPTIMIZER),
    TimeGoal("coupled decay adds at most half of the built-in's", COUPLED, 0.5, BUILTIN),
    TimeGoal("decoupled decay adds no time", DECOUPLED, 0.0, NONE, large=True),
)
ELSEWHERE = (
    TimeGoal("HalfL2 adds no more than the built-in", HALF, 0.0, NONE, over=BUILTIN),
    TimeGoal("decoupled decay adds at most 5 % of the step", DECOUPLED, 0.05, NONE),
)


def time_goals(backend: str, mode: str) -> tuple[TimeGoal, ...]:
    """Returns the goals of a mode. TensorFlow has none when it runs eagerly."""
    if backend != "tensorflow" or mode == "jit":
        return ELSEWHERE
    return GRAPH if mode == "graph" else ()


def goals_of_time(goals: Sequence[TimeGoal], measured: Mapping[str, Timings]) -> Iterator[Goal]:
    """Yields the verdict of every goal on every model that it concerns."""
    for one in goals:
        for model, timings in measured.items():
            if one.large in (None, model == LARGE):
                yield one.on(model, timings)


def goals_of_memory(added: Mapping[str, Memory], largest_kernel: float) -> Iterator[Goal]:
    """Yields the verdicts on peak memory: at most one temporary of the largest kernel.

    A peak is too close to tell if it is as near to the limit as two processes of `none`.
    """
    limit = largest_kernel / 1e6
    for name in variants.OURS:
        if name in added:
            peak, apart = added[name].peak / 1e6, abs(added[again(NONE)].peak) / 1e6
            interval = peak - limit - apart, peak - limit + apart
            text = f"{name}: peak memory of at most one more kernel"
            yield goal(text, MODELS[LARGE].title, peak, limit, ".3f", "MB", interval=interval)


def section(model: str, timings: Timings, mode: str, sizes: floor.Sizes, speed: float) -> Section:
    """Returns the table of a model."""
    step, builtin = timings.median(NONE), timings.added(BUILTIN)
    rows: Rows = {NONE: [1e3 * step, *[None] * 6]}
    for name in list(timings.seconds)[1:]:
        added, moved = timings.added(name), floor.floor_bytes(name, mode, sizes)
        rows[name] = [
            1e3 * timings.median(name),
            1e3 * added,
            1e3 * timings.iqr(name),
            added / builtin if builtin > 0 else None,
            added / step,
            moved / 1e6,
            moved / added / speed if moved and added > 0 else None,
        ]
    case = MODELS[model]
    text = f"Batches of {case.batch_size}, {sizes.decayed / 1e6:.1f} MB of decayed weights."
    return Section(case.title, COLUMNS, rows, text, rounds_of(timings))


def operations() -> Section:
    """Measures the operations of a penalty, each alone, on the large kernels of TensorFlow."""
    import tensorflow as tf

    variables = MODELS[LARGE].build(None).trainable_variables
    weights = [variable.value for variable in variables if variable.shape == (2048, 2048)]
    grads = [tf.ones_like(weight) for weight in weights]
    functions: dict[str, Callable[[], list[Any]]] = {
        "HalfL2: sum(W^2)/2": lambda: [tf.nn.l2_loss(w) for w in weights],
        "Keras L2: sum(square(W))": lambda: [tf.reduce_sum(tf.square(w)) for w in weights],
        "HalfL2: lam*W": lambda: [LAM * w for w in weights],
        "both: gradient + lam*W": lambda: [g + w for g, w in zip(grads, weights, strict=True)],
    }
    graphs = {name: tf.function(function) for name, function in functions.items()}
    timings = paired_calls(graphs, 15)
    rows: Rows = {name: [1e3 * timings.median(name)] for name in timings.seconds}
    return Section(_title("Operations of a penalty"), {"ms": ".2f"}, rows)


def large_sections(added: Mapping[str, Memory], mode: str) -> Iterator[Section]:
    """Yields the tables of the large model alone."""
    rows: Rows = {name: [one.peak / 1e6, one.files / 1e6] for name, one in added.items()}
    yield Section(_title("Peak memory"), MEMORY, rows)
    if (BACKEND, mode) == ("tensorflow", "graph"):
        yield operations()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, judges and publishes."""
    parser = command.parser(__doc__, rounds=40)
    modes = steps.MODES[BACKEND]
    parser.add_argument("--mode", choices=modes, default=modes[0])
    parser.add_argument(
        "--model", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL",
        help="default: all. Any of: " + ", ".join(MODELS),
    )  # fmt: skip
    asked = parser.parse_args(arguments)
    origin, speed = command.origin("step_cost", arguments), floor.bandwidth()
    names = variants.names(asked.mode)
    measured: dict[str, Timings] = {}
    sections = []
    for model in asked.model:
        keras.utils.clear_session()
        case = MODELS[model]
        builds = {n: partial(steps.steps_of, case, n, asked.mode) for n in names}
        measured[model] = paired(builds, asked.rounds)
        sizes = floor.sizes_of(case.build(keras.regularizers.L2(0.0)))
        table = section(model, measured[model], asked.mode, sizes, speed)
        sections.append(command.shown(table))
    goals = list(goals_of_time(time_goals(BACKEND, asked.mode), measured))
    if LARGE in measured:
        added = memory.added(names, asked.mode)
        sections += map(command.shown, large_sections(added, asked.mode))
        goals += goals_of_memory(added, memory.largest_kernel())
    result = Result(
        f"step_cost_{BACKEND}_{asked.mode}",
        f"What a penalty or a decay adds to a training step: {BACKEND}, {asked.mode}",
        origin,
        sections,
        goals,
        ["added, ms", "IQR, ms"],
        f"{variants.SETTINGS} {asked.rounds} rounds on 2 builds of every variant. "
        f"Memory bandwidth: {speed / 1e9:.1f} GB/s.",
    )
    command.publish(result, asked.results, complete=set(measured) == set(MODELS))


def _title(what: str) -> str:
    return f"{what}, {MODELS[LARGE].title}"


if __name__ == "__main__":
    main()
