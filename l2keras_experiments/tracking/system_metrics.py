"""The load of the machine, as MLflow measures it, in a run's metrics.

MLflow's own `SystemMetricsMonitor` ends at the first call that its store does not answer, and holds
up the end of the run meanwhile. Here the samples go through the outbox, as all metrics of a run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from l2keras_experiments.tracking.outbox import Rejected
from l2keras_experiments.tracking.run import Run

PREFIX = "system/"  # of the metrics that MLflow's UI shows under "System metrics"
SECONDS = 10.0  # from one sample to the next, as in MLflow


@contextmanager
def monitored(run: Run) -> Iterator[None]:
    """Samples the machine for the length of the block, and once more at its end."""
    from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL

    over = threading.Event()
    seconds = MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or SECONDS
    thread = threading.Thread(target=_sample, args=(run, over, seconds), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _sample(run: Run, over: threading.Event, seconds: float) -> None:
    monitors, step = _monitors(), run.next_step(PREFIX)
    for monitor in monitors:
        monitor.collect_metrics()  # the load of the CPU is that since the sample before
    with suppress(Rejected):  # which the run itself raises
        is_over = False
        while not is_over:
            is_over = over.wait(seconds)
            found: dict[str, float] = {}
            for monitor in monitors:
                monitor.clear_metrics()
                monitor.collect_metrics()
                found |= monitor.aggregate_metrics()
            run.log_metrics({PREFIX + key: value for key, value in found.items()}, step)
            step += 1


def _monitors() -> list[Any]:
    """MLflow's monitors; that of a GPU where its driver and its package are there."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    found = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(Exception):  # whatever the driver raises
        found.append(GPUMonitor())
    return found
