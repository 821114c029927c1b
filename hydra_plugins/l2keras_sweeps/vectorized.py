"""A Hydra launcher that trains jobs at once where it can: `hydra/launcher=vectorized`.

Jobs that differ in lambda, seed, learning rate and method only share one compiled step over
stacked weights; the others run one after another, as with Hydra's own launcher.

The metric `seconds` of a run that was trained at once is its share of the wall time: in each launch
that of all runs of its group, divided by their number.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Hashable, Sequence

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from omegaconf import DictConfig

from l2keras_experiments.commands import validation
from l2keras_experiments.config import flattening
from l2keras_experiments.runtime import device
from l2keras_experiments.runtime.outcome import Outcome


class VectorizedLauncher(BasicLauncher):
    """Trains groups of jobs at once, in this process."""

    shows_progress = True

    def __init__(self) -> None:
        super().__init__()
        self.composed: Sequence[DictConfig] = []  # by the sweeper, for the jobs that come next

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Returns when all jobs have, in their order."""
        setup_globals()
        assert self.config is not None  # setup has set it
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        outcomes: list[Outcome | None] = [None] * len(job_overrides)
        if len(self.composed) == len(job_overrides):  # another sweeper than ours composes none
            outcomes = self._at_once()
        left = [i for i, outcome in enumerate(outcomes) if outcome is None]
        alone = super().launch([job_overrides[i] for i in left], initial_job_idx)
        results = dict(zip(left, alone, strict=True))
        for i, outcome in enumerate(outcomes):
            if outcome is not None:
                results[i] = JobReturn(overrides=job_overrides[i], status=JobStatus.COMPLETED)
                results[i].return_value = outcome
        return [results[i] for i in range(len(job_overrides))]

    def _at_once(self) -> list[Outcome | None]:
        with device.quiet_imports():  # Keras comes with them
            from l2keras_experiments.sweeps.vectorized.jobs import train_at_once
            from l2keras_experiments.sweeps.vectorized.trainer import group_key, reason_alone

        groups: dict[Hashable, list[int]] = {}
        reasons: Counter[str] = Counter()
        for i, node in enumerate(self.composed):
            config = validation.typed(node)
            key = group_key(config, flattening.flatten(node))
            if key is not None:
                groups.setdefault(key, []).append(i)
            else:
                reasons[str(reason_alone(config))] += 1
        for reason, number in reasons.items():
            why = f"{reason} has no stacked form"
            print(
                f"trained one by one: {number} of {len(self.composed)}, as {why}", file=sys.stderr
            )
        outcomes: list[Outcome | None] = [None] * len(self.composed)
        for members in groups.values():  # one is left where others of its group are done
            done = train_at_once([self.composed[i] for i in members])
            for i, outcome in zip(members, done, strict=True):
                outcomes[i] = outcome
        return outcomes


ConfigStore.instance().store(
    group="hydra/launcher",
    name="vectorized",
    node={"_target_": f"{__name__}.VectorizedLauncher"},
)
