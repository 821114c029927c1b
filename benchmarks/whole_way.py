"""Where the time of a run goes, and what it costs beside imports, tracing and training.

    python -m benchmarks.whole_way

Writes benchmarks/results/whole_way.md. Timings of one process on one machine, medians.
"""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from experiments import cli, paths, progress
from experiments.schema import Config

RESULTS = paths.PROJECT / "benchmarks" / "results"
JOBS = 8  # one-epoch jobs in one process, the first apart
REPEATS = 3

IMPORTS = """
import time
a = time.perf_counter()
import keras
b = time.perf_counter()
import l2keras
print(b - a, time.perf_counter() - b)
"""


def main() -> None:
    lines = ["# The whole way", "", *imports(), *mistakes()]
    cli.register("train", Config, "experiments.train")
    folder = Path(tempfile.mkdtemp())
    with initialize_config_dir(str(paths.CONFIGS), version_base="1.3"):
        lines += runs(folder)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "whole_way.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def imports() -> list[str]:
    """What `import l2keras` adds to `import keras`, in fresh interpreters."""
    found = []
    for _ in range(REPEATS):
        told = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True)
        found.append([float(word) for word in told.stdout.split()])
    keras, ours = (statistics.median(column) for column in zip(*found, strict=True))
    return [f"- `import keras`: {keras:.1f} s; `import l2keras` adds {1000 * ours:.0f} ms."]


def mistakes() -> list[str]:
    """How long a mistake in the config takes to be answered."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        command = [sys.executable, "-m", "experiments.train", "optimizer.learning_rat=1"]
        subprocess.run(command, cwd=paths.PROJECT, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return [f"- A mistyped key is answered after {statistics.median(seconds):.1f} s."]


def runs(folder: Path) -> list[str]:
    """One-epoch runs, one after another in this process; then a long one, phase by phase."""
    import_everything()
    with progress.bar(JOBS + 1, "runs") as advance:
        beside = []
        for seed in range(JOBS):
            beside.append(time_beside(folder, ["training.epochs=1", f"seed={seed}"]))
            advance({})
        phases, total = time_phases(folder, ["training.epochs=30", "seed=100"])
        advance({})
    later = statistics.median(beside[1:])
    lines = [
        f"- A one-epoch run spends {beside[0]:.2f} s outside imports, tracing and training;",
        f"  each further job of a multirun {later:.2f} s.",
        "",
        f"A run of 30 epochs, imports done before: {total:.2f} s.",
        "",
        "| phase | seconds | share |",
        "|---|---|---|",
    ]
    rest = total - sum(phases.values())
    for name, seconds in {**phases, "everything else": rest}.items():
        lines.append(f"| {name} | {seconds:.2f} | {seconds / total:.1%} |")
    return lines


def import_everything() -> None:
    import keras  # noqa: F401
    import mlflow  # noqa: F401
    import tensorflow  # noqa: F401

    from experiments import ledger, tracking, train, trial  # noqa: F401


def time_beside(folder: Path, overrides: list[str]) -> float:
    """Seconds of a run that are not in `fit`, where tracing and training are."""
    from experiments import train

    node = compose("config", [*overrides, "training.progress=false", store_of(folder)])
    start = time.perf_counter()
    outcome = train.train(node)
    return time.perf_counter() - start - outcome.seconds


def time_phases(folder: Path, overrides: list[str]) -> tuple[dict[str, float], float]:
    """Seconds of the phases of a run, each without those inside it, and of all of it."""
    import keras

    from experiments import checkpoint, data, device, run, tracking, train, trial

    watched: list[tuple[Any, str, str]] = [
        (device, "set_up", "choosing the device"),
        (tracking.Store, "__init__", "opening the store"),
        (tracking.Store, "_open", "opening the run"),
        (data, "load_data", "loading the data"),
        (trial, "compiled_model", "building the model"),
        (trial, "audit", "auditing it"),
        (keras.Model, "train_step", "tracing the step"),  # Python runs while it is traced only
        (keras.Model, "test_step", "tracing the validation"),
        (keras.Model, "evaluate", "validating"),
        (checkpoint, "save", "checkpoints"),
        (run.Run, "log_model", "saving the model"),
        (run.Run, "end", "writing what is left to the store"),
        (keras.Model, "fit", "training, and what Keras and TensorFlow do around it"),
    ]
    clock = Clock()
    node = compose("config", [*overrides, "training.progress=false", store_of(folder)])
    with clock.watching(watched):
        start = time.perf_counter()
        train.train(node)
        total = time.perf_counter() - start
    return dict(clock.own), total


class Clock:
    """Adds up the time of functions, without that of watched functions inside them."""

    def __init__(self) -> None:
        self.own: dict[str, float] = defaultdict(float)
        self._inside: list[float] = []

    @contextmanager
    def watching(self, watched: list[tuple[Any, str, str]]) -> Iterator[None]:
        kept = [(owner, name, getattr(owner, name)) for owner, name, _ in watched]
        for owner, name, label in watched:
            setattr(owner, name, self._timed(getattr(owner, name), label))
        try:
            yield
        finally:
            for owner, name, function in kept:
                setattr(owner, name, function)

    def _timed(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            self._inside.append(0.0)
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                seconds = time.perf_counter() - start
                self.own[label] += seconds - self._inside.pop()
                if self._inside:
                    self._inside[-1] += seconds

        return timed


def store_of(folder: Path) -> str:
    return f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"


if __name__ == "__main__":
    main()
