"""Hydra's flags and composition: what a command is given, composed and checked before it runs."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import (
    ConfigKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from l2keras_experiments.config import messages, schema
from l2keras_experiments.config.loading import OpenLoader
from l2keras_experiments.config.paths import CONFIGS, check_writable, reason
from l2keras_experiments.config.schema import ConfigError, check_text


@contextmanager
def mistakes() -> Iterator[None]:
    """Turns whatever Hydra, OmegaConf or YAML raise in the block into a ConfigError."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=r"provider=")  # a searchpath that is not there
            warnings.filterwarnings("ignore", message=r"\s*Running Hydra app with --multirun")
            yield
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            _unknown(error)
            or "The overrides and config files must make one valid config. "
            f"Received: {explained(error)}. Correct the override or the file."
        ) from error


def _unknown(error: Exception) -> str:
    """The answer to a key or an option in a config file that does not exist; "" to others."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        received = f"{group}={option} in a list of defaults"
        return messages.unknown("option", received, option, error.options)
    cause, match = error.__cause__ or error.__context__, re.match(r"In '(.+?)'", str(error))
    if not (isinstance(cause, ConfigKeyError) and cause.full_key and match):
        return ""
    file, key = match[1], cause.full_key
    if key == file.partition("/")[0]:
        return (
            f"A file in {key}/ must begin with the line `# @package _global_`. "
            f"Received: {file}.yaml without it. Add the line."
        )
    groups = [item.name for item in fields(schema.Config)]
    kinds = [schema.Config]
    kinds += [schema.CompareConfig, schema.TuneConfig] if "." in key else []  # its group exists
    valid = dict.fromkeys([*groups, *(name for kind in kinds for name, _, _ in schema.keys(kind))])
    received = f"{key} in {file}.yaml"
    return "" if key.startswith("hydra") else messages.unknown("key", received, key, [*valid])


def explained(error: BaseException) -> str:
    """What an error and its causes say, each thing once."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = _plain(cause)
        core = text.partition(": ")[2] or text  # without the key or the type
        if text and not any(core in part for part in parts):
            parts.append(text)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "; ".join(parts[:3]) or type(error).__name__


def _plain(error: BaseException) -> str:
    """The message without what only a developer of Hydra needs."""
    if isinstance(error, RecursionError):
        return "it refers to itself or is nested too deeply"
    lines = [line.strip() for line in str(error).splitlines()]
    useless = ("object_type=", "reference_type=", "full_key:", "See http", "Config search path:")
    found = [line for line in lines if line and not line.startswith(useless)]
    # A missing config is followed by the whole search path.
    found = [line for line in found if line is found[0] or not line.startswith("provider=")]
    text = " ".join(found).rstrip(".")
    if isinstance(error, OmegaConfBaseException):
        return f"{error.full_key}: {text}" if error.full_key else text
    return text if isinstance(error, HydraException) else messages.named(error, text)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Hydra's flags and the overrides.

    Raises:
        ConfigError: flags that do not exist or exclude each other, text that is not UTF-8.
    """
    for argument in arguments:
        check_text("An argument", argument)
    parser = get_args_parser()
    parser.error = _wrong_flag  # type: ignore[method-assign]
    flags = parser.parse_intermixed_args(list(arguments))
    chosen = [flags.run, flags.multirun, flags.cfg, flags.shell_completion, flags.info]
    if sum(map(bool, chosen)) > 1:
        raise ConfigError(
            "Only one of --run, --multirun, --cfg, --info and --shell-completion can be given. "
            f"Received: {' '.join(arguments)}. Leave out the others."
        )
    if flags.resolve and not (flags.cfg or flags.help):
        raise ConfigError("--resolve needs --cfg job. Received: --resolve alone. Add --cfg job.")
    if flags.experimental_rerun is not None:
        raise ConfigError(
            "A run is launched with overrides. Received: --experimental-rerun "
            f"{flags.experimental_rerun}. Pass those of .hydra/overrides.yaml instead."
        )
    if flags.config_path and "://" not in flags.config_path:
        flags.config_path = str(Path(flags.config_path).absolute())
    return flags


def sorted_arguments(arguments: Sequence[str], flags: argparse.Namespace) -> list[str]:
    """The flags, then the overrides: Hydra takes no override behind a flag behind an override.

    Hydra looks for a relative --config-path beside its own module, so the whole path follows: of
    two the last one counts.
    """
    words = list(arguments)
    for override in reversed(flags.overrides):
        del words[len(words) - 1 - words[::-1].index(override)]
    whole = ["--config-path", flags.config_path] if flags.config_path else []
    return [*words, *whole, *flags.overrides]


def _wrong_flag(message: str) -> NoReturn:
    raise ConfigError(
        "Arguments must be flags of Hydra and overrides key=value. "
        f"Received: {message}. --help shows the keys, --hydra-help the flags."
    )


@dataclass(frozen=True)
class Found:
    """What Hydra finds in its search path: the groups and their options.

    Attributes:
        config_name: The primary config, which may extend the search path.
        searchpath: The override of hydra.searchpath, if there is one.
    """

    loader: ConfigLoader
    config_name: str | None = None
    searchpath: tuple[str, ...] = ()

    def groups(self) -> dict[str, list[str]]:
        """The groups but Hydra's own, with their options; not those inside of groups."""
        names = sorted(set(self._ask("", ObjectType.GROUP)) - {"hydra"})
        found = {name: self.options(name) for name in names}
        return {name: options for name, options in found.items() if options}

    def options(self, group: str) -> list[str]:
        """The options of one group; none where there is no such group."""
        return sorted(self._ask(group, ObjectType.CONFIG))

    def _ask(self, group: str, kind: ObjectType) -> list[str]:
        return self.loader.get_group_options(group, kind, self.config_name, list(self.searchpath))


def found_by(flags: argparse.Namespace, default_name: str) -> Found:
    """What Hydra finds with these flags.

    Raises:
        ConfigError: a folder that they name does not exist.
    """
    path = flags.config_path or str(CONFIGS)
    if "://" not in path:
        _check_folder("--config-path", Path(path))
    search = create_config_search_path(path)
    if flags.config_dir is not None:
        folder = Path(flags.config_dir).absolute()
        _check_folder("--config-dir", folder)
        before = SearchPathQuery(provider="schema")
        search.prepend(provider="command-line", path=f"file://{folder}", anchor=before)
    setup_globals()
    searchpath = [word for word in flags.overrides if word.startswith("hydra.searchpath=")]
    loader = OpenLoader(config_search_path=search)
    return Found(loader, flags.config_name or default_name, tuple(searchpath))


def default_found() -> Found:
    """What Hydra finds without any flag."""
    return found_by(get_args_parser().parse_args([]), "config")


def _check_folder(flag: str, folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(
            f"{flag} must be a folder of config files. Received: {folder}, which is none. "
            "Pass a folder that exists."
        )


def compose(found: Found, overrides: Sequence[str], name: str, multirun: bool) -> DictConfig:
    """The config as Hydra will compose it, hydra.mode decided; of a sweep, what is not swept."""
    JobRuntime().set("name", name)
    asked = RunMode.MULTIRUN if multirun else RunMode.RUN
    node = found.loader.load_configuration(
        found.config_name, list(overrides), asked, validate_sweep_overrides=False
    )
    node.hydra.mode = asked if multirun else node.hydra.mode or asked
    HydraConfig.instance().set_config(node)
    return node


def check_package(node: DictConfig, package: str) -> None:
    """Raises ConfigError where --package names no part of the config."""
    if package != "_global_" and OmegaConf.select(node, package) is None:
        raise ConfigError(
            f"--package must name a part of the config. Received: {package}. "
            "Leave it out to see all of it."
        )


def without_hydra(node: DictConfig) -> DictConfig:
    """The job's part of a composed config."""
    job = node.copy()
    with open_dict(job):
        del job["hydra"]
    return job


def check_hydra(node: DictConfig) -> Path:
    """Raises ConfigError where Hydra's own part could not be used; returns the output folder."""
    for part in ("run", "sweep", "job", "launcher", "sweeper", "job_logging", "hydra_logging"):
        for key, value in _texts(node.hydra[part], f"hydra.{part}"):
            check_text(f"`{key}`", value)
    _check_counts(node.hydra)
    _check_loggers(node.hydra.verbose)
    where = "hydra.sweep.dir" if node.hydra.mode is RunMode.MULTIRUN else "hydra.run.dir"
    given = str(OmegaConf.select(node, where))
    folder = Path(given).absolute()
    try:
        if not given.strip():
            raise ValueError("an empty text")
        check_writable(folder)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"`{where}` must be a folder that can be written. "
            f"Received: {where}={given} ({reason(error)}). Choose another folder."
        ) from None
    return folder


def _check_counts(hydra: DictConfig) -> None:
    """Raises ConfigError for numbers of jobs that no launcher and no sweeper can start."""
    n_jobs = hydra.launcher.get("n_jobs", 1)
    if not _is_whole(n_jobs) or (n_jobs != -1 and n_jobs < 1):
        raise ConfigError(
            "`hydra.launcher.n_jobs` must be a whole number from 1, or -1 for as many jobs at once "
            f"as there are cores. Received: hydra.launcher.n_jobs={n_jobs}. Write another number."
        )
    size = hydra.sweeper.get("max_batch_size")
    if size is not None and (not _is_whole(size) or size < 1):
        raise ConfigError(
            "`hydra.sweeper.max_batch_size` must be a whole number from 1, or null. "
            f"Received: hydra.sweeper.max_batch_size={size}. Leave it out."
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_loggers(verbose: Any) -> None:
    """Raises ConfigError unless hydra.verbose is a bool or names loggers, one or a list of them."""
    if isinstance(verbose, bool):
        return
    names = [verbose] if isinstance(verbose, str) else verbose
    if isinstance(names, list | ListConfig) and all(isinstance(name, str) for name in names):
        unknown = [name for name in names if not _is_logger(name)]
    else:
        unknown = [verbose]
    if unknown:
        raise ConfigError(
            "`hydra.verbose` must be true, false, or the names of loggers, such as hydra or "
            f"[hydra,mlflow]. Received: hydra.verbose={verbose}. Write true for every logger."
        )


def _is_logger(name: str) -> bool:
    """Whether a logger has this name, or a module that would log under it."""
    if name in logging.root.manager.loggerDict or name in ("root", "__main__"):
        return True
    first = name.partition(".")[0]
    try:
        return bool(first) and importlib.util.find_spec(first) is not None
    except (ImportError, ValueError):
        return False


def _texts(node: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Every resolved text; what is set only when a job runs is left out."""
    if node is None:
        return
    is_list = isinstance(node, ListConfig)
    for key in range(len(node)) if is_list else list(node):
        name = f"{prefix}.{key}"
        try:
            value = node[key]
        except (MissingMandatoryValue, InterpolationToMissingValueError):
            continue
        if isinstance(value, DictConfig | ListConfig):
            yield from _texts(value, name)
        elif isinstance(value, str):
            yield name, value


@contextmanager
def errors_raised() -> Iterator[None]:
    """Hydra raises in the block, instead of printing a traceback and ending the process."""
    before = os.environ.get(messages.SHOW_TRACEBACKS)
    os.environ[messages.SHOW_TRACEBACKS] = "1"
    try:
        yield
    finally:
        os.environ.pop(messages.SHOW_TRACEBACKS)
        if before is not None:
            os.environ[messages.SHOW_TRACEBACKS] = before


@contextmanager
def no_traces(folder: Path, node: DictConfig) -> Iterator[None]:
    """Removes what Hydra wrote for a run if the block ends in a mistake.

    Args:
        folder: The output folder.
        node: The composed config.
    """
    configs = folder / (node.hydra.output_subdir or ".hydra")
    before = {path for place in (folder, configs) if place.is_dir() for path in place.iterdir()}
    folders = [path for path in (configs, folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException as end:
        if isinstance(end, Exception) or getattr(end, "code", 0) == messages.MISTAKE:
            written = [configs / name for name in ("config.yaml", "hydra.yaml", "overrides.yaml")]
            written += [folder / name for name in _log_files(node)]
            for path in set(written) - before:
                path.unlink(missing_ok=True)
            for path in folders:
                with suppress(OSError):  # not there, or not empty: something else is in there
                    path.rmdir()
        raise


def _log_files(node: DictConfig) -> Iterator[str]:
    """The names of the files that Hydra's loggers open in the output folder."""
    written: Any = OmegaConf.to_container(node.hydra)  # its interpolations are of a running job
    for part in ("job_logging", "hydra_logging"):
        for handler in ((written[part] or {}).get("handlers") or {}).values():
            name = str(handler.get("filename", "")).rpartition("/")[2]
            if name:
                yield name.replace("${hydra.job.name}", str(node.hydra.job.name))
