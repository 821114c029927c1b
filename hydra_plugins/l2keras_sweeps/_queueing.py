"""submitit's launcher for one machine, with no more jobs at once than it has cores for."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.pool import ThreadPool

from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import (  # type: ignore[import-untyped]  # it publishes no types
    LocalLauncher,
)


class QueueingLocalLauncher(LocalLauncher):
    """Launches each job by itself, so that it waits for a free core and fails alone."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from joblib import cpu_count

        def launch_one(job: tuple[int, Sequence[str]]) -> JobReturn:
            index, overrides = job
            result: JobReturn
            try:
                [result] = LocalLauncher.launch(self, [overrides], index)
            except Exception as error:  # submitit's: the process ended without a result
                result = JobReturn(overrides=overrides, status=JobStatus.FAILED)
                result.return_value = error
            return result

        at_once = max(1, cpu_count() // (self.params["cpus_per_task"] or 1))
        with ThreadPool(at_once) as pool:
            return pool.map(launch_one, enumerate(job_overrides, initial_job_idx), chunksize=1)
