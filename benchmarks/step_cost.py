"""What a penalty or a decay adds to a training step: `python -m benchmarks.step_cost`.

No regularization, Keras' L2, HalfL2, the optimizer's weight_decay and WeightDecay in each coupling
take turns in one process, on six models. KERAS_BACKEND and --mode choose how they run. Writes
benchmarks/results/step_cost_<backend>_<mode>.md and .png when all models ran.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from benchmarks.stepcost import (
    floor,
    goals,
    machine,
    memory,
    models,
    parts,
    report,
    steps,
    timing,
    variants,
)
from benchmarks.stepcost.models import LARGE, MODELS

RESULTS = Path(__file__).parent / "results"
BACKEND = keras.backend.backend()


def measure(model: str, mode: str, rounds: int) -> timing.Timings:
    """The timings of a model."""
    keras.utils.clear_session()
    build = partial(steps.steps_of, MODELS[model], mode=mode)
    return timing.compare(variants.names(mode), build, rounds)


class Page:
    """Lines that are printed as they come, and kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, lines: Iterable[str]) -> None:
        for line in lines:
            print(line, flush=True)
            self.lines.append(line)


def main() -> None:
    """Measures, judges and reports."""
    asked = _asked()
    run = report.Run(BACKEND, asked.mode, machine.described(), asked.rounds, floor.bandwidth())
    page, measured = Page(), {}
    page.add(report.heading(run))
    for model in asked.model:
        measured[model] = measure(model, run.mode, run.rounds)
        sizes = floor.sizes_of(MODELS[model].build(keras.regularizers.L2(0.0)))
        page.add(report.section(run, model, measured[model], sizes))
    verdicts = list(goals.verdicts_on_time(goals.goals_of(BACKEND, run.mode), measured))
    if LARGE in measured:
        added = memory.added(variants.names(run.mode), run.mode)
        page.add(report.memory_section(added))
        verdicts += goals.verdicts_on_memory(added, memory.largest_kernel())
        if (BACKEND, run.mode) == ("tensorflow", "graph"):
            page.add(report.parts_section(parts.measured(models.large_kernels())))
    page.add(report.goals_section(verdicts))
    page.add(report.reasons(run))
    if set(measured) == set(MODELS):
        stem = RESULTS / f"step_cost_{BACKEND}_{run.mode}"
        stem.with_suffix(".md").write_text("\n".join(page.lines))
        report.figure(run, measured, stem.with_suffix(".png"))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    modes = steps.MODES[BACKEND]
    parser.add_argument("--mode", choices=modes, default=modes[0])
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=40)
    return parser.parse_args()


if __name__ == "__main__":
    main()
