"""A Hydra launcher with a process for each job: `hydra/launcher=isolated`.

Whatever ends a job, be it SIGKILL, ends that job only. The processes are forked from one that has
imported what they need, so that isolation costs a fork and not an import of TensorFlow.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import connection, get_context
from typing import Any

import cloudpickle
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from l2keras_experiments.runtime import progress
from l2keras_experiments.runtime.outcome import Outcome
from l2keras_experiments.runtime.signals import Terminated

STOP_SECONDS = 45.0  # for jobs to write what they have, after Ctrl-C and SIGTERM


class DiedError(RuntimeError):
    """A process ended without a word."""


class IsolatedLauncher(Launcher):
    """Runs each job in a process of its own, `n_jobs` at a time; -1: as many as there are cores."""

    shows_progress = True

    def __init__(self, n_jobs: int = 1) -> None:
        self.n_jobs = (os.cpu_count() or 1) if n_jobs < 0 else max(1, n_jobs)
        self._context = get_context("forkserver")

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Returns when all jobs have; what the processes tell is shown on the board."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        self._context.set_forkserver_preload(["l2keras_experiments.sweeps.preload"])
        waiting = deque(enumerate(job_overrides, start=initial_job_idx))
        running: dict[Any, _Worker] = {}
        results: dict[int, JobReturn] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.n_jobs:
                    worker = self._start(*waiting.popleft())
                    running[worker.pipe] = worker
                for pipe in connection.wait(list(running)):
                    worker = running[pipe]
                    if not worker.receive():
                        del running[pipe]
                        results[worker.index] = worker.result()
        finally:
            _stop(list(running.values()))
        return [results[index] for index in sorted(results)]

    def _start(self, index: int, overrides: Sequence[str]) -> _Worker:
        state = (self.hydra_context, self.config, Singleton.get_state())
        payload = cloudpickle.dumps((index, list(overrides), *state))
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(payload, theirs))
        process.start()
        theirs.close()
        return _Worker(index, overrides, process, ours)


class _Worker:
    """A job at work, as the launcher sees it."""

    def __init__(self, index: int, overrides: Sequence[str], process: Any, pipe: Any) -> None:
        self.index = index
        self.process = process
        self.pipe = pipe
        self._overrides = overrides
        self._advance: progress.Advance | None = None
        self._label = ""
        self._outcome: Outcome | None = None

    def receive(self) -> bool:
        """Shows what the job tells; False where there is no more to come."""
        try:
            kind, content = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            return False
        board = progress.current_board()
        if kind == "begin" and board is not None:
            self._label = content[0]
            self._advance = board.begin(*content)
        elif kind == "epoch" and self._advance is not None:
            self._advance(content)
        elif kind == "end":
            if not content.label:  # the job had not come to its name
                content = replace(content, label=self._label or " ".join(self._overrides))
            self._outcome = content
            if board is not None:
                board.end(content)
        return True

    def result(self) -> JobReturn:
        """What the job returned, or how its process died."""
        result = JobReturn(overrides=self._overrides, status=JobStatus.COMPLETED)
        result.return_value = self._outcome
        if self._outcome is None:
            result.status = JobStatus.FAILED
            result.return_value = DiedError(_cause(self.process.exitcode))
            self._show_death()
        return result

    def _show_death(self) -> None:
        board = progress.current_board()
        if board is not None:
            label = self._label or " ".join(self._overrides)
            board.end(Outcome(label, "", "FAILED", failure=_cause(self.process.exitcode)))


def _cause(exitcode: int) -> str:
    if exitcode >= 0:
        return f"its process ended with exit status {exitcode}"
    name = signal.Signals(-exitcode).name
    memory = ", perhaps for lack of memory" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{memory}"


def _stop(workers: Sequence[_Worker]) -> None:
    """Ends the jobs that are still at work: they write what they have, then they are KILLED."""
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(STOP_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()


class _RemoteBoard:
    """The board of the launcher, seen from a job."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def begin(self, label: str, epochs: int, selection: str | None = None) -> progress.Advance:
        self._tell("begin", (label, epochs, selection))
        return lambda metrics, label=None: self._tell("epoch", dict(metrics))

    def end(self, outcome: Outcome) -> None:
        self._tell("end", outcome)

    def _tell(self, kind: str, content: Any) -> None:
        """Where the launcher has been killed, the job ends as if it had been stopped with it."""
        try:
            self._pipe.send((kind, content))
        except BrokenPipeError:
            raise Terminated("the process of the sweep is gone") from None


def _work(payload: bytes, pipe: Any) -> None:
    """The life of a process: one job."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = 0
    board = _RemoteBoard(pipe)
    try:
        with progress.on_board(board):
            _run(payload)
    except (KeyboardInterrupt, Terminated):  # the launcher says so
        status = 1
    except BaseException as error:  # before or behind the job, whose own errors are outcomes
        status = 1
        with suppress(Terminated):
            board.end(Outcome.of_error("", "", error))
    pipe.close()
    os._exit(status)  # nothing is left to do; TensorFlow's threads would take a second to end


def _run(payload: bytes) -> None:
    index, overrides, hydra_context, config, state = cloudpickle.loads(payload)
    from l2keras_experiments.sweeps.job import job

    setup_globals()
    Singleton.set_state(state)
    node = hydra_context.config_loader.load_sweep_config(config, overrides)
    with open_dict(node):
        node.hydra.job.id = node.hydra.job.num = index
    HydraConfig.instance().set_config(node)
    run_job(
        hydra_context=hydra_context,
        task_function=job,
        config=node,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


ConfigStore.instance().store(
    group="hydra/launcher",
    name="isolated",
    node={"_target_": f"{__name__}.IsolatedLauncher", "n_jobs": 1},
)
