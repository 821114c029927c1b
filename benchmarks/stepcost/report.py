"""The results in words and as a figure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.stepcost.floor import Sizes, floor_bytes
from benchmarks.stepcost.goals import Verdict
from benchmarks.stepcost.memory import RUNS, Memory
from benchmarks.stepcost.models import MODELS
from benchmarks.stepcost.timing import BUILDS, Timings
from benchmarks.stepcost.variants import AGAIN, BUILTIN, LAM, LEARNING_RATE, MOMENTUM, NONE
from experiments import drawing

_COLOURS = ("#d55e00", "#0072b2", "#000000", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")

_SHOWN = (-0.5, 2.0)  # ratios; those beyond are cut off, and written


@dataclass(frozen=True)
class Run:
    """What all tables of a run share. `bandwidth` is in bytes per second."""

    backend: str
    mode: str
    machine: str
    rounds: int
    bandwidth: float


def heading(run: Run) -> Iterator[str]:
    """The title and how it was measured."""
    yield f"# What a penalty or a decay adds to a training step: {run.backend}, {run.mode}\n"
    yield f"{run.machine}.\n"
    yield (
        f"lambda = {LAM}, momentum SGD ({LEARNING_RATE}, {MOMENTUM}). {run.rounds} rounds in one "
        f"process, on {BUILDS} builds of every variant; in each round every variant takes its "
        "turn, in random order. Step: the median. Added: the median of the differences to `none` "
        "in the same round, and their interquartile range. `none, again` is the control. Floor: "
        "the bytes that the variant must move beyond `none` (derived in "
        "benchmarks/stepcost/floor.py); reached: their speed in the time added, as a share of the "
        f"bandwidth: {run.bandwidth / 1e9:.1f} GB/s, read and written by a NumPy copy of 256 MiB "
        "on all cores in this run. Weights that fit a cache can exceed 1.\n"
    )


def section(run: Run, model: str, timings: Timings, sizes: Sizes) -> Iterator[str]:
    """The table of a model."""
    case = MODELS[model]
    yield (
        f"## {case.title}\n\nBatches of {case.batch_size}, {sizes.decayed / 1e6:.1f} MB of decayed "
        "weights.\n"
    )
    yield "| | step, ms | added, ms | IQR | / built-in | of the step | floor, MB | reached |"
    yield "|---|---|---|---|---|---|---|---|"
    step = timings.median(NONE)
    yield f"| {NONE} | {1e3 * step:.2f} | | | | | | |"
    for name in timings.seconds:
        if name == NONE:
            continue
        added, moved = timings.added(name), floor_bytes(name, run.mode, sizes)
        reached = f"{moved / added / run.bandwidth:.2f}" if moved and added > 0 else "-"
        yield (
            f"| {name} | {1e3 * timings.median(name):.2f} | {1e3 * added:.3f} | "
            f"{1e3 * timings.noise(name):.3f} | {ratio(timings, name):.2f} | {added / step:.1%} | "
            f"{moved / 1e6:.1f} | {reached} |"
        )
    yield ""


def ratio(timings: Timings, name: str) -> float:
    """Added time over that of the built-in; nan where the built-in adds nothing."""
    builtin = timings.added(BUILTIN)
    return timings.added(name) / builtin if builtin > 0 else float("nan")


def memory_section(added: Mapping[str, Memory]) -> Iterator[str]:
    """The table of memory."""
    yield "## Peak memory, 3x2048 MLP\n"
    yield (
        f"The peak of a process of its own over that of `none`, medians of {RUNS} processes. Pages "
        "of the libraries' files are told apart: all processes share them, and the system may drop "
        "them. At first they were counted in the peak.\n"
    )
    yield "| | added peak, MB | added pages of files, MB |\n|---|---|---|"
    for name, one in added.items():
        if name != NONE:
            yield f"| {name} | {one.peak / 1e6:.1f} | {one.files / 1e6:.1f} |"
    yield ""


def parts_section(seconds: Mapping[str, float]) -> Iterator[str]:
    """The table of a penalty's operations."""
    yield "## What a penalty is made of, 3x2048 MLP\n"
    yield (
        "Each operation alone, on the three large kernels, in turns; medians. HalfL2 saves what "
        "Keras' L2 writes to square W, forward and backward. Both write lam*W and add it to the "
        "gradient of the loss, in operations of their own: what HalfL2 adds beyond half of the "
        "built-in is there. It also is why the penalty's peak memory is that of all kernels: lam*W "
        "needs nothing of the step, so TensorFlow computes all of them at its start.\n"
    )
    yield "| | ms |\n|---|---|"
    for name, value in seconds.items():
        yield f"| {name} | {1e3 * value:.2f} |"
    yield ""


def goals_section(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """The table of goals."""
    yield "## Goals, fixed before measuring\n"
    yield (
        "Too close to tell: zero lies in the 95 % interval of what was measured less its limit, by "
        "a bootstrap over the rounds (of memory: as near as two processes of `none`). This verdict "
        "was added when it was seen how far apart two models without decay often are.\n"
    )
    yield "| goal | model | measured | at most | |\n|---|---|---|---|---|"
    for one in verdicts:
        measured, limit = (f"{value:.3f} {one.unit}" for value in (one.measured, one.limit))
        yield f"| {one.goal} | {MODELS[one.model].title} | {measured} | {limit} | {one.told} |"
    yield ""


# What stands in the way of goals, by backend and mode.
_REASONS = {
    ("tensorflow", "graph"): (
        "HalfL2, large MLP: lam*W and its sum with the gradient are two passes that write, as "
        "they are for the built-in; a regularizer is not asked when the two could be one.",
        "Decay, the other models: their kernels are in the cache, and each form is two or "
        "three short operations for a variable, Keras' own too; so they differ by little. "
        "Clusters save nothing there, and are not chosen.",
        "Memory: TensorFlow computes lam*W of all kernels when the step begins, as it needs "
        "nothing else.",
    ),
    ("tensorflow", "eager"): (
        "Memory: the tape makes lam*W of all kernels first, and adds each to the gradient of the "
        "loss when that comes; coupled decay makes the new gradients of all kernels before the "
        "update.",
    ),
    ("jax", "eager"): (
        "Memory: outside of jit JAX has no operation in place; a new kernel is written beside the "
        "old one, by decay as by the penalty's lam*W.",
    ),
    ("torch", "eager"): (
        "Decoupled decay of large weights is a pass of its own: at the bandwidth measured, "
        "the floor alone is more than 5 % of the step.",
        "Memory: autograd holds lam*W of a kernel beside its gradient while it adds them; "
        "coupled decay makes the new gradients of all kernels before the update, and leaves "
        "those of autograd alone.",
    ),
    ("torch", "jit"): (
        "Decoupled decay is no part of the update's graph: Dynamo breaks it where Keras' update "
        "hands a tensor to torch where a number is taken (`_foreach_add_`), decay or not. Decay is "
        "a graph of its own before, a pass over the weights with its own guards.",
        "Memory: HalfL2 holds one lam*W, as the built-in does, and 1.5 MB beside; coupled decay "
        "makes the new gradients of all kernels before the update.",
    ),
}


def reasons(run: Run) -> Iterator[str]:
    """What stands in the way of goals that are not met."""
    told = _REASONS.get((run.backend, run.mode), ())
    if told:
        yield "## Where a goal is not met\n"
        yield from (f"- {one}" for one in told)
        yield ""


def figure(run: Run, measured: Mapping[str, Timings], path: Path) -> None:
    """Bars of added time over the built-in's, a group for each model."""
    names = [
        name for name in next(iter(measured.values())).seconds if name not in (NONE, AGAIN, BUILTIN)
    ]
    drawn = drawing.new_figure(11, 4.6)
    axes = drawing.tidy(drawn.add_subplot())
    width = 0.84 / len(names)
    for number, name in enumerate(names):
        heights = [ratio(timings, name) for timings in measured.values()]
        places = [group + (number - (len(names) - 1) / 2) * width for group in range(len(heights))]
        axes.bar(places, heights, 0.9 * width, label=name, color=_COLOURS[number + 1])
        for place, height in zip(places, heights, strict=True):
            if math.isfinite(height):
                top = min(max(height, 0), _SHOWN[1])
                axes.text(place, top + 0.02, f"{height:.2f}", ha="center", fontsize=6)
    axes.axhline(1, color=_COLOURS[0], linestyle="--", label=BUILTIN)
    axes.axhline(0, color="#777777", linewidth=0.8)
    axes.set_ylim(*_SHOWN)
    axes.set_xticks(range(len(measured)), [MODELS[model].title for model in measured])
    axes.set_ylabel("added time / the built-in's")
    axes.set_title(f"{run.backend}, {run.mode} ({run.machine})", fontsize=9, pad=16)
    axes.legend(ncols=4, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.08))
    drawn.savefig(path, dpi=144)
