"""Hydra's own sweeper, which looks up what is done before it launches the rest.

Every job is composed and checked before the first one runs; the launcher, whichever it is, gets
those that the store does not have. What came of them is read from the store, so that a job may
die in any way, on any machine.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from l2keras_experiments.commands import validation
from l2keras_experiments.config import credentials, flattening, schema
from l2keras_experiments.config.composition import Found
from l2keras_experiments.config.overrides import check_number, check_overrides
from l2keras_experiments.config.schema import Config, ConfigError
from l2keras_experiments.runtime import boundary, device, signals
from l2keras_experiments.runtime.outcome import Outcome
from l2keras_experiments.sweeps import identity, rehearsal
from l2keras_experiments.sweeps.sweep import Job, Sweep


class StudySweeper(BasicSweeper):
    """Hydra's product of overrides; finished runs are skipped, the rest hang under one parent.

    Args:
        max_batch_size: Hydra's; all jobs are launched at once.
        params: Of every job, as in Hydra's own sweeper: keys and what they are swept over, as
            typed ("0,1", "range(5)") or as a list.
        grids: Further params, of which each makes a product of its own: the sweep is their union.
    """

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None = None,
        grids: Any = None,
    ) -> None:
        super().__init__(max_batch_size, params)
        self.grids = grids or [{}]

    def sweep(self, arguments: list[str]) -> Any:
        """Ends the process: with status 1 if a run failed.

        Raises:
            ConfigError: a mistake in the configuration, before anything is launched.
        """
        jobs = self.jobs(arguments)
        validation.check_environment(jobs[0].config)
        try:
            failed = self._sweep(jobs, arguments)
        except Exception as error:
            sys.exit(boundary.failed(error))
        sys.exit(1 if failed else 0)

    def _sweep(self, jobs: Sequence[Job], arguments: list[str]) -> bool:
        device.choose_backend(jobs[0].config.backend)  # what processes that are forked load before
        launcher = self.launcher
        assert launcher is not None  # setup has made it

        def launch(todo: Sequence[Job], parent: str) -> list[Outcome]:
            overrides = [
                [
                    *job.overrides,
                    f"tracking.parent={parent}",
                    f"tracking.varied=[{','.join(job.config.tracking.varied)}]",
                    f"tracking.planned='{job.config_hash}'",
                ]
                for job in todo
            ]
            if hasattr(launcher, "composed"):  # it would compose them again otherwise
                launcher.composed = [_under(job, parent) for job in todo]
            returned = launcher.launch(overrides, initial_job_idx=0)
            return [_outcome(job, result) for job, result in zip(todo, returned, strict=True)]

        def check(todo: Sequence[Job]) -> None:
            if isinstance(launcher, BasicLauncher):  # others start processes, which load a backend
                rehearsal.check([job.config for job in todo])

        tells = getattr(launcher, "shows_progress", isinstance(launcher, BasicLauncher))
        name = describe_sweep([*self._parse_config(), *arguments])
        with signals.stoppable():
            return Sweep(jobs, name, launch, watch=not tells, check=check).run()

    def _given(self, arguments: Sequence[str]) -> list[list[str]]:
        """The overrides of each grid; what is typed comes last, so that it wins."""
        if not isinstance(self.grids, ListConfig | list):
            raise _wrong_words("grids", self.grids)
        grids = [_words("grids", grid) for grid in self.grids]
        return [[*self._parse_config(), *grid, *arguments] for grid in grids]

    def _parse_config(self) -> list[str]:
        return _words("params", self.params)

    def jobs(self, arguments: Sequence[str]) -> list[Job]:
        """Every job, composed and checked; equal ones once."""
        assert self.hydra_context is not None  # setup has set it
        loader = self.hydra_context.config_loader
        found = self._found()
        points: list[list[str]] = []
        for given in self._given(arguments):
            check_overrides(given, Config, found)
            parser = OverridesParser.create(config_loader=loader)
            points += self.split_arguments(parser.parse_overrides(given), None)[0]
        check_number(len(points))
        composed: dict[tuple[str, ...], DictConfig] = {}
        jobs = []
        for point in points:
            node = self._compose(point, composed)
            told = identity.config_hash(flattening.flatten(node))
            jobs.append(Job(tuple(point), told, validation.typed(node), node))
        check_together(jobs)
        return with_labels(list({job.config_hash: job for job in reversed(jobs)}.values())[::-1])

    def _found(self) -> Found:
        assert self.hydra_context is not None
        assert self.config is not None
        hydra = self.config.hydra
        path = tuple(w for w in hydra.overrides.hydra if w.startswith("hydra.searchpath="))
        return Found(self.hydra_context.config_loader, hydra.job.config_name, path)

    def _compose(
        self, point: Sequence[str], composed: dict[tuple[str, ...], DictConfig]
    ) -> DictConfig:
        """The config of a job. Hydra needs 0.1 s for one: once for each choice of options."""
        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        keys = {key for key, _, _ in schema.keys(Config)}
        values = [override for override in point if _is_value(override, keys)]
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


def _words(key: str, swept: Any) -> list[str]:
    """Overrides for what a file sweeps over."""
    if not isinstance(swept, Mapping):
        raise _wrong_words(key, swept)
    return [f"{name}={_values(key, value)}" for name, value in swept.items()]


def _values(key: str, value: Any) -> str:
    """The values of a key as they would be typed."""
    if isinstance(value, Mapping) or (not isinstance(value, str) and value == []):
        raise _wrong_words(key, value)
    if isinstance(value, ListConfig | list):
        return ",".join(Override._get_value_element_as_str(_plain(item)) for item in value)
    return value if isinstance(value, str) else Override._get_value_element_as_str(value)


def _plain(item: Any) -> Any:
    return OmegaConf.to_container(item) if OmegaConf.is_config(item) else item


def _wrong_words(key: str, received: Any) -> ConfigError:
    shape = "keys with the values to sweep over, such as {seed: [0, 1]}"
    shape = f"a list of {shape}" if key == "grids" else shape
    return ConfigError(
        f"`hydra.sweeper.{key}` must be {shape}. Received: {received!r}. Leave it out, or write it "
        "as in configs/experiment/coupled_adam.yaml."
    )


def _under(job: Job, parent: str) -> DictConfig:
    node = copy.deepcopy(job.node)
    node.tracking.parent, node.tracking.planned = parent, job.config_hash
    return node


def _is_value(override: str, keys: Container[str]) -> bool:
    """Whether it sets a key of the config, which Hydra does last, and chooses no option."""
    return override.partition("=")[0] in keys


def with_labels(jobs: Sequence[Job]) -> list[Job]:
    """The jobs, each with the keys in its name by which it differs from others."""
    varied = schema.varied_keys([job.config for job in jobs])
    for job in jobs:
        job.node.tracking.varied = varied
    tracked = (replace(job.config.tracking, varied=varied) for job in jobs)
    return [
        replace(job, config=replace(job.config, tracking=tracking))
        for job, tracking in zip(jobs, tracked, strict=True)
    ]


def check_together(jobs: Sequence[Job]) -> None:
    """Raises ConfigError where runs of a sweep could not hang under one parent, or do two things.

    What does not change a result makes no run of its own.
    """
    if any(job.config.tracking.parent is not None for job in jobs):
        raise ConfigError(
            "A sweep makes the run that its runs hang under. "
            f"Received: tracking.parent={jobs[0].config.tracking.parent}. Leave it out."
        )
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
    if not outcome.config_hash:  # an error outside of the job, in its process
        return replace(outcome, label=job.label, config_hash=job.config_hash)
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
