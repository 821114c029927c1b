"""How long the page of a large study takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from l2keras_experiments.reports import records, report
from l2keras_experiments.tracking.store import Store
from tests.support.synthetic import Trial


def deep() -> Iterator[Trial]:
    """Two methods, 500 seeds: every run is part of a curve."""
    for method in ("half_l2", "decoupled"):
        for seed in range(500):
            yield Trial(method, seed=seed, accuracy=0.9 - 0.002 * (seed % 7))


def wide() -> Iterator[Trial]:
    """Five methods, ten lambdas, four learning rates, five seeds."""
    for method in ("half_l2", "decoupled", "coupled", "builtin_l2", "independent"):
        for index in range(10):
            for rate in (0.01, 0.03, 0.1, 0.3):
                for seed in range(5):
                    score = 0.9 - 0.01 * abs(index - 5) - 0.002 * ((seed * 7 + index) % 5)
                    yield Trial(method, 10 ** (index / 3 - 4), rate, seed, score)


@pytest.mark.parametrize("trials", [wide, deep])
def test_a_thousand_runs_are_read_in_seconds(
    store: Store, tmp_path: Path, trials: Callable[[], Iterator[Trial]]
) -> None:
    """A sweep of 1,000 runs becomes a page in under 5 s, its imports aside."""
    with store.run("sweep", tags={"kind": "sweep"}) as parent:
        for trial in trials():
            trial.store(store, parent.id, epochs=10)
    report.main([store.study, "--uri", store.uri, "--output", str(tmp_path)])  # imports, fonts
    start = time.process_time()  # of this process: others may be at work on the machine
    found = records.open_study(store.uri, store.study)
    written = report.write(found, parent.id, None, tmp_path)
    seconds = time.process_time() - start
    assert len(written.study.runs) == 1000
    assert seconds < 5, f"{seconds:.1f} s"
