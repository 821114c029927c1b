"""The measurements, each repeated: what comes out of them are medians."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hydra import compose

from benchmarks.wholeway.clock import Clock, phases
from experiments import paths

Advance = Callable[[], object]  # called after each repetition
BACKEND = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
QUIET = "training.progress=false"

IMPORTS = """
import time
import keras
start = time.perf_counter()
import l2keras
imported = time.perf_counter()
from l2keras import *
print(imported - start, time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Profile:
    """Where the time of a run went.

    Attributes:
        phases: Seconds of each phase, in the order in which they begin.
        seconds: All of it.
        tracking: Seconds that its record took: the main thread's, and CPU seconds of the outbox
            beside them.
        beside: Those CPU seconds.
        waited: CPU seconds of the outbox while the main thread waited for it: counted there.
    """

    phases: dict[str, float]
    seconds: float
    tracking: float
    beside: float = 0.0
    waited: float = 0.0


def imports(repeats: int, advance: Advance) -> tuple[float, float]:
    """What `import l2keras` adds to `import keras`, and what all its names do."""
    found = []
    for _ in range(repeats):
        told = _python("-c", IMPORTS)
        found.append([float(word) for word in told.stdout.split()])
        advance()
    added, all_names = (statistics.median(column) for column in zip(*found, strict=True))
    return added, all_names


def mistake(repeats: int, advance: Advance) -> float:
    """How long a mistyped key takes to be answered, from the start of the process to its end."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        assert _python("-m", "experiments.train", "optimizer.learning_rat=1").returncode == 2
        seconds.append(time.perf_counter() - start)
        advance()
    return statistics.median(seconds)


def first_command(folder: Path, repeats: int, advance: Advance) -> Profile:
    """`python -m experiments.train training.epochs=1`, each time with a store of its own."""
    found = []
    for number in range(repeats):
        file = folder / f"command{number}.json"
        store = store_of(folder / f"store{number}")
        started = time.time()
        done = _python("-m", "benchmarks.wholeway.command", str(file), str(started),
                       "training.epochs=1", QUIET, store)  # fmt: skip
        ended = time.time()
        if done.returncode:
            raise RuntimeError(done.stderr)
        told = json.loads(file.read_text())
        steps = {**told["phases"], "ending the process": ended - told["ending"]}
        found.append(Profile(steps, ended - started, told["tracking"]))
        advance()
    return median_of(found)


def further_job(folder: Path, repeats: int, advance: Advance) -> tuple[float, float]:
    """What a further one-epoch job of a multirun takes beside `fit`, and inside it.

    `python -m experiments.train -m`, with a store of its own, which tells when each run started
    and how long its `fit` took: Hydra, the launcher and the parent run are counted too.
    """
    from experiments.tracking import Store

    store = store_of(folder / "multirun")
    seeds = f"seed=range({repeats + 2})"  # the first job is left out, the last one has no next
    done = _python("-m", "experiments.train", "-m", seeds, "training.epochs=1", QUIET, store)
    if done.returncode:
        raise RuntimeError(done.stderr)
    opened = Store(store.removeprefix("tracking.uri="), "l2keras")
    runs = opened.client.search_runs(
        [opened.experiment_id], "tags.kind = 'trial'", order_by=["attributes.start_time ASC"]
    )
    fits = [run.data.metrics["seconds"] for run in runs]
    seconds = beside_fit([run.info.start_time / 1000 for run in runs], fits)
    assert len(seconds) == repeats, done.stderr
    advance()
    return statistics.median(seconds), statistics.median(fits[1:-1])


def beside_fit(starts: Sequence[float], fits: Sequence[float]) -> list[float]:
    """For each run but the first and the last: from its start to the next one's, less its `fit`."""
    pairs = zip(pairwise(starts), fits[:-1], strict=True)
    return [following - start - fit for (start, following), fit in pairs][1:]


def long_run(folder: Path, repeats: int, advance: Advance) -> Profile:
    """30 epochs; imports are done, the store is there, and is opened anew."""
    from experiments import tracking, train

    train.train(compose("config", ["training.epochs=1", QUIET, store_of(folder)]))
    found = []
    for seed in range(repeats):
        options = ["training.epochs=30", f"seed={100 + seed}", QUIET, store_of(folder)]
        node = compose("config", options)
        clock = Clock()
        tracking._opened.cache_clear()
        with clock.watching(phases()):
            start = time.perf_counter()
            train.train(node)
            seconds = time.perf_counter() - start
        parts = (clock.tracking(), clock.beside, clock.waited)
        found.append(Profile(dict(clock.own), seconds, *parts))
        advance()
    return median_of(found)


def median_of(profiles: Sequence[Profile]) -> Profile:
    """The medians of each number, on its own."""
    names = dict.fromkeys(name for profile in profiles for name in profile.phases)
    return Profile(
        {n: statistics.median(p.phases.get(n, 0.0) for p in profiles) for n in names},
        *(
            statistics.median(getattr(profile, name) for profile in profiles)
            for name in ("seconds", "tracking", "beside", "waited")
        ),
    )


def store_of(folder: Path) -> str:
    return f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in the checkout."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=paths.PROJECT,
        env={**os.environ, **BACKEND},
        capture_output=True,
        text=True,
    )
