"""Where the time of a run goes, and what it costs beside imports, tracing and training.

    python -m benchmarks.whole_way

Writes benchmarks/results/whole_way.md and whole_way.png: medians, on one machine.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hydra import initialize_config_dir

from benchmarks.wholeway import measure, page
from experiments import cli, paths, progress
from experiments.schema import Config

RESULTS = paths.PROJECT / "benchmarks" / "results"
INTERPRETERS, MISTAKES, COMMANDS, JOBS, LONG_RUNS = 11, 5, 5, 10, 7


def main() -> None:
    os.environ.update(measure.BACKEND)
    cli.register("train", Config, "experiments.train")
    repeats = INTERPRETERS + MISTAKES + COMMANDS + 1 + LONG_RUNS
    with (
        tempfile.TemporaryDirectory() as folder,
        initialize_config_dir(str(paths.CONFIGS), version_base="1.3"),
        progress.bar(repeats, "runs") as advance,
    ):
        found = everything(Path(folder), lambda: advance({}))
    RESULTS.mkdir(exist_ok=True)
    page.write(found, RESULTS, "whole_way")
    print((RESULTS / "whole_way.md").read_text())


def everything(folder: Path, advance: measure.Advance) -> page.Found:
    """What needs fresh processes first; then what happens in this one."""
    added, all_names = measure.imports(INTERPRETERS, advance)
    mistake = measure.mistake(MISTAKES, advance)
    first = measure.first_command(folder, COMMANDS, advance)
    further, further_fit = measure.further_job(folder, JOBS, advance)
    return page.Found(
        added=added,
        all_names=all_names,
        mistake=mistake,
        first=first,
        further=further,
        further_fit=further_fit,
        long=measure.long_run(folder, LONG_RUNS, advance),
        counts=(INTERPRETERS, MISTAKES, COMMANDS, JOBS, LONG_RUNS),
    )


if __name__ == "__main__":
    main()
