"""Measures where the time of a run goes: `python -m benchmarks.whole_way`.

It times the imports, a mistake in the config, a first command on an empty store, the further jobs
of a multirun, and a run of 30 epochs. The result is benchmarks/results/whole_way.json with its
page and figure.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from hydra import compose, initialize_config_dir

from benchmarks.cases.phases import INSIDE_FIT, REST, SAVING, TRACKING, Clock, phases
from benchmarks.kit import command
from benchmarks.kit.result import Goal, Result, Section, goal
from benchmarks.kit.timing import timed
from l2keras_experiments.commands import command_line
from l2keras_experiments.config import paths
from l2keras_experiments.config.schema import Config

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
FIRST = "First run: one epoch, empty store"
LONG = "30 epochs: after imports, existing store"


@dataclass(frozen=True)
class Repeats:
    """How often each measurement is repeated."""

    imports: int = 11
    mistakes: int = 5
    commands: int = 5
    jobs: int = 10
    runs: int = 7


@dataclass(frozen=True)
class Profile:
    """Where the time of a run goes, in seconds.

    Attributes:
        phases: The time of each phase, in the order in which they begin.
        seconds: The time of the whole run.
        tracking: The time of tracking: the main thread's, and `beside`.
        beside: CPU time of the write queue's thread while the run trains.
        waited: CPU time of that thread while the main thread waits for it; the phase of waiting
            has that time already.
    """

    phases: dict[str, float]
    seconds: float
    tracking: float
    beside: float = 0.0
    waited: float = 0.0

    @property
    def inside_fit(self) -> float:
        """The time inside `fit`, with validation and checkpoints."""
        return sum(self.phases.get(name, 0.0) for name in INSIDE_FIT)

    @property
    def outside(self) -> float:
        """The time outside of imports and `fit`."""
        imports = [s for name, s in self.phases.items() if name.startswith("import ")]
        return self.seconds - sum(imports) - self.inside_fit


@dataclass(frozen=True)
class Measured:
    """All measurements, in seconds.

    Attributes:
        imported: What `import l2keras` adds to `import keras`.
        all_names: What `from l2keras import *` adds.
        mistake: The whole process of a mistyped key.
        further: A further job of a multirun outside of `fit`.
        further_fit: Its `fit`.
    """

    imported: float
    all_names: float
    mistake: float
    first: Profile
    further: float
    further_fit: float
    long: Profile
    repeats: Repeats


def measure(folder: Path, repeats: Repeats) -> Measured:
    """Measures fresh processes first, then the runs of this process."""
    imported, all_names = _imports(repeats.imports)
    mistake = statistics.median(timed(_mistake)[0] for _ in range(repeats.mistakes))
    first = median_of([_first_command(folder / f"{n}") for n in range(repeats.commands)])
    further, further_fit = _further_jobs(folder, repeats.jobs)
    _train(folder, 1, seed=0)
    long = median_of([_long_run(folder, 100 + number) for number in range(repeats.runs)])
    return Measured(imported, all_names, mistake, first, further, further_fit, long, repeats)


def _imports(repeats: int) -> tuple[float, float]:
    words = [_python("-c", IMPORTS).stdout.split() for _ in range(repeats)]
    imported, all_names = (statistics.median(map(float, w)) for w in zip(*words, strict=True))
    return imported, all_names


def _mistake() -> None:
    assert _python("-m", "experiments.train", "optimizer.learning_rat=1").returncode == 2


def _first_command(folder: Path) -> Profile:
    """Profiles a process of one epoch with a store of its own."""
    folder.mkdir()
    file, started = folder / "seconds.json", time.time()
    done = _python("-m", "benchmarks.cases.cold_start", str(file), str(started),
                   "training.epochs=1", QUIET, _store(folder))  # fmt: skip
    ended = time.time()
    if done.returncode:
        raise RuntimeError(done.stderr)
    seconds = json.loads(file.read_text())
    steps = {**seconds["phases"], "ending the process": ended - seconds["ending"]}
    return Profile(steps, ended - started, seconds["tracking"])


def _further_jobs(folder: Path, repeats: int) -> tuple[float, float]:
    """Returns the seconds of a further one-epoch job of a multirun, outside and inside `fit`.

    The store has the start of each run and the seconds of its `fit`. The time outside includes
    Hydra, the launcher and the parent run.
    """
    from l2keras_experiments.tracking.store import Store

    store = _store(folder / "multirun")
    seeds = f"seed=range({repeats + 2})"  # the first and the last job are left out
    done = _python("-m", "experiments.train", "-m", seeds, "training.epochs=1", QUIET, store)
    if done.returncode:
        raise RuntimeError(done.stderr)
    opened = Store(store.removeprefix("tracking.uri="), "l2keras")
    runs = opened.client.search_runs(
        [opened.experiment_id], "tags.kind = 'trial'", order_by=["attributes.start_time ASC"]
    )
    fits = [run.data.metrics["seconds"] for run in runs]
    seconds = outside_fit([run.info.start_time / 1000 for run in runs], fits)
    assert len(seconds) == repeats, done.stderr
    return statistics.median(seconds), statistics.median(fits[1:-1])


def outside_fit(starts: Sequence[float], fits: Sequence[float]) -> list[float]:
    """Returns the seconds from each start to the next, less `fit`; without first and last run."""
    pairs = zip(pairwise(starts), fits[:-1], strict=True)
    return [following - start - fit for (start, following), fit in pairs][1:]


def _long_run(folder: Path, seed: int) -> Profile:
    """Profiles a run of 30 epochs, which opens the existing store again."""
    from l2keras_experiments.tracking.store import _opened

    clock = Clock()
    _opened.cache_clear()
    with clock.watching(phases()):
        seconds = _train(folder, 30, seed)
    return Profile(dict(clock.own), seconds, clock.tracking(), clock.beside, clock.waited)


def _train(folder: Path, epochs: int, seed: int) -> float:
    from l2keras_experiments.sweeps import job

    overrides = [f"training.epochs={epochs}", f"seed={seed}", QUIET, _store(folder)]
    node = compose("config", overrides)
    return timed(lambda: job.train(node))[0]


def median_of(profiles: Sequence[Profile]) -> Profile:
    """Returns the median of each number; an absent phase takes no time."""
    names = dict.fromkeys(name for profile in profiles for name in profile.phases)
    return Profile(
        {n: statistics.median(p.phases.get(n, 0.0) for p in profiles) for n in names},
        *(
            statistics.median(getattr(profile, name) for profile in profiles)
            for name in ("seconds", "tracking", "beside", "waited")
        ),
    )


def _store(folder: Path) -> str:
    return f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a fresh interpreter in the checkout."""
    words = [sys.executable, *arguments]
    return subprocess.run(words, cwd=paths.PROJECT, capture_output=True, text=True)


def goals(measured: Measured) -> Iterator[Goal]:
    """Yields the goals with their verdicts."""
    repeats, share = measured.repeats, measured.long.tracking / measured.long.seconds
    outside = measured.first.outside
    for text, count, value, limit, form, unit in (
        ("`import l2keras` after `import keras`", repeats.imports,
         1e3 * measured.imported, 50, ".0f", "ms"),
        ("answer to a mistake in the config", repeats.mistakes, measured.mistake, 2, ".1f", "s"),
        ("first run outside imports and `fit`", repeats.commands, outside, 2, ".2f", "s"),
        ("further job outside `fit`", repeats.jobs, measured.further, 0.5, ".2f", "s"),
        ("tracking, share of 30 epochs", repeats.runs, share, 0.05, ".1%", ""),
    ):  # fmt: skip
        yield goal(text, f"median of {count}", value, limit, form, unit)


def sections(measured: Measured) -> list[Section]:
    """Returns the tables."""
    first, long = measured.first, measured.long
    file = long.phases.get(SAVING, 0.0)
    overview = {
        "`import l2keras`": measured.imported,
        "`from l2keras import *`": measured.all_names,
        "mistake in the config": measured.mistake,
        "first run, outside imports and `fit`": first.outside,
        "first run, inside `fit`": first.inside_fit,
        "further job, outside `fit`": measured.further,
        "further job, inside `fit`": measured.further_fit,
    }
    tracking = {
        "tracking": long.tracking,
        "tracking without the model's file": long.tracking - file,
        "CPU of the write queue beside training": long.beside,
        "CPU of the write queue while the run waits": long.waited,
    }
    return [
        Section("Overview", {"s": ".3g"}, {name: [s] for name, s in overview.items()}),
        profile_section(FIRST, first),
        profile_section(LONG, long),
        Section(
            "Tracking of 30 epochs",
            {"ms": ".0f", "share": ".1%"},
            {name: [1e3 * s, s / long.seconds] for name, s in tracking.items()},
        ),
    ]


def profile_section(title: str, profile: Profile) -> Section:
    """Returns the table of a profile; the phases of tracking have a star."""
    rows = {name: s for name, s in profile.phases.items() if name != REST}
    rows[REST] = profile.seconds - sum(rows.values())
    return Section(
        title,
        {"seconds": ".3f", "share": ".1%"},
        {
            f"{name} *" if name in TRACKING else name: [s, s / profile.seconds]
            for name, s in rows.items()
        },
        f"{profile.seconds:.3f} s in total. A star marks tracking.",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, judges and publishes."""
    asked = command.parser(__doc__, rounds=None).parse_args(arguments)
    origin = command.origin("whole_way", arguments)
    repeats = Repeats(*[asked.rounds] * 5) if asked.rounds else Repeats()
    command_line.register("train", Config, "experiments.train")
    with (
        tempfile.TemporaryDirectory() as folder,
        initialize_config_dir(str(paths.CONFIGS), version_base="1.3"),
    ):
        measured = measure(Path(folder), repeats)
    result = Result(
        "whole_way",
        "Where the time of a run goes",
        origin,
        list(map(command.shown, sections(measured))),
        list(goals(measured)),
        ["seconds"],
    )
    command.publish(result, asked.results, complete=asked.rounds is None)


if __name__ == "__main__":
    main()
