"""Measures what tracking adds to a run of 30 epochs: `python -m benchmarks.tracking_cost [RUNS]`.

Three variants of a run take turns in one process: training alone; with a checkpoint after each
epoch; and all of `experiments.train`, with MLflow and the model. The time that
`experiments.report` takes for all runs follows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from benchmarks.kit import command
from benchmarks.kit.result import Result, Rows, Section, goal, section_of
from benchmarks.kit.timing import Timings, Turn, again, once, paired, timed
from l2keras_experiments.commands import command_line, validation
from l2keras_experiments.config import paths
from l2keras_experiments.config.schema import Config

EPOCHS = 30
QUIET = [f"training.epochs={EPOCHS}", "training.progress=false"]
METHODS = ("half_l2", "decoupled")
TRAINED, KEPT, TRACKED = "training alone", "with checkpoints", "with MLflow and the model, too"
LIMIT = 0.05  # of a tracked run


def builds(folder: Path) -> dict[str, Callable[[], Turn]]:
    """Returns the variants; each has its own sequence of runs, which is the same for all."""
    from l2keras_experiments.data.datasets import load_data
    from l2keras_experiments.runtime import device
    from l2keras_experiments.sweeps import job
    from l2keras_experiments.training.trial import TrialResult, run_trial

    def trained(node: DictConfig, checkpoint_path: Path | None = None) -> TrialResult:
        config = validation.typed(node)
        device.set_up(config)
        data = load_data(config.data, config.seed, config.training.dtype.value)
        return run_trial(config, data, checkpoint_path=checkpoint_path)

    def kept(node: DictConfig) -> None:
        path = folder / "run.state"
        trained(node, path)
        path.unlink()

    def turn(function: Callable[[DictConfig], object]) -> Turn:
        numbers = count()
        return once(lambda: function(config_of(next(numbers), folder)))

    functions: dict[str, Callable[[DictConfig], object]]
    functions = {TRAINED: trained, KEPT: kept, TRACKED: job.train}
    return {name: partial(turn, function) for name, function in functions.items()}


def config_of(number: int, folder: Path) -> DictConfig:
    """Returns the config of a run; two methods alternate."""
    store = f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"
    method, seed = f"regularization={METHODS[number % 2]}", f"seed={number // 2}"
    return compose("config", [*QUIET, method, seed, store])


def costs(timings: Timings) -> Section:
    """Returns the medians of the paired differences, and their share of a tracked run."""
    whole = timings.median(TRACKED)
    pairs = {
        "tracking": (TRACKED, KEPT),
        "checkpoints": (KEPT, TRAINED),
        "both": (TRACKED, TRAINED),
        "control": (again(TRAINED), TRAINED),
    }
    added = {what: timings.added(name, over=over) for what, (name, over) in pairs.items()}
    columns = {"added, ms": ".0f", "of a tracked run": ".1%"}
    rows: Rows = {w: [1e3 * s, s / whole] for w, s in added.items()}
    return Section("Cost of tracking", columns, rows)


def share(timings: Timings) -> float:
    """Returns the share of tracking, the model included, in a tracked run."""
    return timings.added(TRACKED, over=KEPT) / timings.median(TRACKED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and publishes."""
    parser = command.parser(__doc__, rounds=30)
    parser.add_argument("runs", type=int, nargs="?", help="the same as --rounds")
    asked = parser.parse_args(arguments)
    runs = asked.runs or asked.rounds
    origin = command.origin("tracking_cost", arguments)
    command_line.register("train", Config, "experiments.train")

    from l2keras_experiments.reports import report
    from l2keras_experiments.tracking.store import Store

    with (
        tempfile.TemporaryDirectory() as name,
        initialize_config_dir(str(paths.CONFIGS), version_base="1.3"),
    ):
        folder = Path(name)
        timings = paired(builds(folder), runs, builds=1, warm_up=1, least=0.0)
        store = Store(f"sqlite:///{folder / 'mlflow.db'}", "l2keras")
        seconds, _ = timed(lambda: report.write(store, None, None, folder / "report"))
    case, text = f"{EPOCHS} epochs of digits", f"{runs} rounds."
    interval = timings.interval(lambda t: share(t) - LIMIT)
    found = goal("tracking, share of a run", case, share(timings), LIMIT, ".1%", interval=interval)
    sections = [
        costs(timings),
        section_of(case, timings, text),
        Section("Report over all tracked runs", {"s": ".1f"}, {"report": [seconds]}),
    ]
    title = f"What tracking adds to a run of {EPOCHS} epochs"
    shown = list(map(command.shown, sections))
    command.publish(Result("tracking_cost", title, origin, shown, [found]), asked.results)


if __name__ == "__main__":
    main()
