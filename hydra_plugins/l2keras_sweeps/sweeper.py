"""Hydra's own sweeper, which looks up what is done before it launches the rest.

Every job is composed and checked before the first one runs; the launcher, whichever it is, gets
those that the store does not have. What came of them is read from the store, so that a job may
die in any way, on any machine.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf, open_dict

from experiments import cli, credentials, device, identity, schema, signals
from experiments.outcome import Outcome
from experiments.schema import Config, ConfigError
from experiments.sweep import Job, Sweep


class StudySweeper(BasicSweeper):
    """Hydra's product of overrides; finished runs are skipped, the rest hang under one parent.

    Args:
        max_batch_size: Hydra's; all jobs are launched at once.
        params: Of every job, as in Hydra's own sweeper: keys and what they are swept over.
        grids: Further params, of which each makes a product of its own: the sweep is their union.
    """

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None = None,
        grids: Sequence[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(max_batch_size, params)
        self.grids = grids or [{}]

    def sweep(self, arguments: list[str]) -> Any:
        """Ends the process: with status 1 if a run failed, 2 for a mistake in the configuration."""
        try:
            failed = self._sweep(arguments)
        except ConfigError as error:
            sys.exit(cli.one_line(error))
        sys.exit(1 if failed else 0)

    def _sweep(self, arguments: list[str]) -> bool:
        jobs = self.jobs(arguments)
        device.choose_backend(jobs[0].config.backend)  # what processes that are forked load before
        launcher = self.launcher
        assert launcher is not None  # setup has made it

        def launch(todo: Sequence[Job], parent: str) -> list[Outcome]:
            overrides = [[*job.overrides, f"tracking.parent={parent}"] for job in todo]
            if hasattr(launcher, "composed"):  # it would compose them again otherwise
                launcher.composed = [_under(job.node, parent) for job in todo]
            returned = launcher.launch(overrides, initial_job_idx=0)
            return [_outcome(job, result) for job, result in zip(todo, returned, strict=True)]

        tells = getattr(launcher, "shows_progress", isinstance(launcher, BasicLauncher))
        name = describe_sweep([*self._parse_config(), *arguments])
        with signals.stoppable():
            return Sweep(jobs, name, launch, watch=not tells).run()

    def _given(self, arguments: Sequence[str]) -> list[list[str]]:
        """The overrides of each grid; what is typed comes last, so that it wins."""
        grids = [[f"{key}={value}" for key, value in grid.items()] for grid in self.grids]
        return [[*self._parse_config(), *grid, *arguments] for grid in grids]

    def jobs(self, arguments: Sequence[str]) -> list[Job]:
        """Every job, composed and checked; equal ones once."""
        assert self.hydra_context is not None  # setup has set it
        loader = self.hydra_context.config_loader
        points: list[list[str]] = []
        for given in self._given(arguments):
            parser = OverridesParser.create(config_loader=loader)
            points += self.split_arguments(parser.parse_overrides(given), None)[0]
        composed: dict[tuple[str, ...], DictConfig] = {}
        jobs = []
        for point in points:
            node = self._compose(point, composed)
            told = identity.config_hash(cli.flatten(node))
            jobs.append(Job(tuple(point), told, cli.typed(node), node))
        check_together(jobs)
        return list({job.config_hash: job for job in reversed(jobs)}.values())[::-1]

    def _compose(
        self, point: Sequence[str], composed: dict[tuple[str, ...], DictConfig]
    ) -> DictConfig:
        """The config of a job. Hydra needs 0.1 s for one: once for each choice of options."""
        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        values = [override for override in point if _is_value(override)]
        options = tuple(override for override in point if override not in values)
        if options not in composed:
            node = loader.load_sweep_config(self.config, list(options))
            with open_dict(node):
                del node["hydra"]
            composed[options] = node
        node = copy.deepcopy(composed[options])
        for override in OverridesParser.create().parse_overrides(values):
            OmegaConf.update(node, override.key_or_group, override.value(), merge=True)
        return node


def _under(node: DictConfig, parent: str) -> DictConfig:
    node = copy.deepcopy(node)
    node.tracking.parent = parent
    return node


def _is_value(override: str) -> bool:
    """Whether it sets a key of the config, which Hydra does last, and chooses no option."""
    key = override.partition("=")[0]
    return key in {key for key, _, _ in schema.keys(Config)}


def check_together(jobs: Sequence[Job]) -> None:
    """Raises ConfigError where runs of a sweep could not hang under one parent, or do two things.

    What does not change a result makes no run of its own.
    """
    for key in ("tracking.uri", "tracking.study", "rerun", "backend"):
        values = {schema.value(job.config, key) for job in jobs}
        if len(values) > 1:
            shown = sorted(credentials.masked_address(str(one)) for one in values)
            raise ConfigError(
                f"`{key}` must be the same for all runs of a sweep. "
                f"Received: {', '.join(shown)}. Start a sweep for each."
            )


def describe_sweep(given: Sequence[str]) -> str:
    """A name for the parent: the overrides, without what changes no result."""
    neutral = ("tracking.", "training.progress", "rerun", "hydra", "device")
    words = [word for word in given if not word.lstrip("+").startswith(neutral)]
    return "sweep " + " ".join(words) if words else "sweep"


def _outcome(job: Job, result: JobReturn) -> Outcome:
    """What a job returned; where it raised, Hydra or the launcher did."""
    try:
        outcome: Outcome = result.return_value
    except Exception as error:
        return Outcome.of_error(job.label, job.config_hash, error)
    return outcome


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="study",
    node={
        "_target_": f"{__name__}.StudySweeper",
        "max_batch_size": None,
        "params": None,
        "grids": None,
    },
)
