"""One store that several processes write to."""

from __future__ import annotations

import subprocess
import sys

from l2keras_experiments.config import paths
from l2keras_experiments.tracking.store import Store
from tests.support.runs import runs_of


def test_four_processes_write_one_store_from_the_first_instant(missing_uri: str) -> None:
    """Four processes that meet a database that is not there yet lose no metric of theirs."""
    program = (
        "import sys; from l2keras_experiments.tracking.store import Store\n"
        "with Store(sys.argv[1], 'study').run('one') as run:\n"
        "    for step in range(100):\n"
        "        run.log_metrics({'x': float(step)}, step=step)\n"
        "        if step % 5 == 0: assert run.flush()"
    )
    command = [sys.executable, "-c", program, missing_uri]
    processes = [subprocess.Popen(command, cwd=paths.PROJECT) for _ in range(4)]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    store = Store(missing_uri, "study")
    runs = runs_of(store)
    assert [run.info.status for run in runs] == ["FINISHED"] * 4
    for run in runs:
        history = store.client.get_metric_history(run.info.run_id, "x")
        assert [metric.value for metric in history] == list(range(100))
