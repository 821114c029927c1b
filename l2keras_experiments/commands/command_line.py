"""What the commands share: the typed config in Hydra, early answers to mistakes, --help."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from l2keras_experiments.commands import validation
from l2keras_experiments.config import (
    composition,
    credentials,
    launchers,
    loading,
    nodes,
    program,
    schema,
    sealing,
    targets,
)
from l2keras_experiments.config.overrides import check_overrides
from l2keras_experiments.config.paths import RUNS
from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.runtime import boundary

WEIGHT_DECAY = "l2keras.callbacks.WeightDecay"  # takes the arguments of regularization
Check = Callable[[Any], None]  # raises ConfigError for a typed config that cannot be


def register(name: str, config: type[schema.Config], called: str, template: str = "") -> None:
    """Makes the typed config and its help known to Hydra, under `<name>_schema`."""
    sealing.install()
    OmegaConf.register_new_resolver("runs", lambda: str(RUNS), replace=True)
    OmegaConf.register_new_resolver("config_dir", loading.config_dir, replace=True)
    started = datetime.now()  # Hydra's `now` is another time in each composition
    OmegaConf.register_new_resolver(
        "started", lambda pattern: started.strftime(pattern), use_cache=True, replace=True
    )
    store = ConfigStore.instance()
    store.store(name=f"{name}_schema", node=nodes.node_type(config))
    launchers.register()
    node = {"app_name": called, "header": "", "footer": "", "template": template}
    store.store(group="hydra/help", name=name, node=node)


def help_text(
    config: type[schema.Config],
    called: str,
    groups: dict[str, list[str]],
    chosen: Mapping[str, Any],
) -> str:
    """Every group and key with its default and one line, for --help.

    Args:
        config: The type of the config.
        called: The command, as the user calls it.
        groups: The options of each group.
        chosen: The composed config, whose targets' arguments are listed.
    """
    sweeps = config is schema.Config  # the other commands are no jobs of a sweep
    sweep = " [-m for a sweep over a=1,2,3]" if sweeps else ""
    lines = [f"{called} [key=value ...]{sweep}", "", "Groups:"]
    lines += [f"  {name}={'|'.join(options)}" for name, options in groups.items()]
    lines += ["", "Keys (default; the chosen options of the groups change some):"]
    for key, item, _ in schema.keys(config):
        shown = f"{key}={_shown(item)}"
        lines.append(f"  {shown:44} {item.metadata['help']}")
    lines += ["", "Arguments of the chosen options:"]
    for group in schema.open_groups(config):
        target = str(chosen[group].get(targets.TARGET, WEIGHT_DECAY))
        found = [f"{name}={p.default}" for name, p in targets.accepted(target).items()
                 if p.default is not p.empty and name not in schema.own_keys(group)]  # fmt: skip
        lines.append(f"  {group}.* of {target}: {', '.join(found) or 'none'}")
    if sweeps:
        lines += [
            "",
            "A sweep trained at once, where that can be: hydra/launcher=vectorized. Each run in a",
            "process of its own, two at once: hydra/launcher=isolated hydra.launcher.n_jobs=2.",
            f"On many cores or machines: hydra/launcher={'|'.join(launchers.PACKAGES)}.",
        ]
    lines += ["", "The config without running it: --cfg job. Flags of Hydra: --hydra-help."]
    return "\n".join(lines).replace("$", r"$$") + "\n"


def _shown(item: Any) -> str:
    default = item.default_factory() if callable(item.default_factory) else item.default
    if default is None:
        return "null"
    if isinstance(default, list):
        return "[" + ",".join(map(str, default)) + "]"
    return str(getattr(default, "value", default))


def launch(main: Callable[[], Any], config: type[schema.Config], name: str, *checks: Check) -> None:
    """Composes and checks what sys.argv says; if nothing is wrong, Hydra runs it.

    Args:
        main: Decorated with hydra.main, its config called `name`.
        config: The type of the config.
        name: That of the command.
        checks: What raises ConfigError for a config that this command cannot use.

    Raises:
        ConfigError: something is wrong; it leaves no files.
    """
    credentials.hide(credentials.sealed_override)
    with composition.mistakes():
        flags = composition.parse(sys.argv[1:])
        sys.argv[1:] = composition.sorted_arguments(sys.argv[1:], flags)
        found = composition.found_by(flags, "config" if name == "train" else name)
        called = program.command(name)
        register(name, config, called)
        if flags.shell_completion or flags.hydra_help:
            main()
            return
        overrides = check_overrides(flags.overrides, config, found)
        node = composition.compose(found, flags.overrides, name, flags.multirun)
        _check_mode(node, config, overrides)
        if node.hydra.mode is RunMode.RUN:
            _check_job(composition.without_hydra(node), config, checks)
        folder = composition.check_hydra(node)
        if flags.package:
            composition.check_package(node, flags.package)
        if flags.help:
            register(name, config, called, help_text(config, called, found.groups(), node))
        with composition.errors_raised(), composition.no_traces(folder, node):
            main()


def _check_mode(
    node: DictConfig, config: type[schema.Config], overrides: Sequence[Override]
) -> None:
    """Raises ConfigError for a sweep of what is no job of a sweep, or without -m."""
    swept = [override.input_line for override in overrides if override.is_sweep_override()]
    sweeps = node.hydra.mode is RunMode.MULTIRUN
    if config is not schema.Config and (sweeps or swept):
        received = " ".join(map(str, swept)) or "hydra.mode=MULTIRUN (-m, or a preset that sweeps)"
        raise ConfigError(
            "This command makes one launch, no sweep. "
            f"Received: {received}. Leave it out, add hydra.mode=RUN to a preset that sweeps, or "
            f"use `{program.command('train')}`."
        )
    if swept and not sweeps:
        raise ConfigError(
            f"Several values need a sweep. Received: {' '.join(map(str, swept))}. "
            "Add -m for a sweep; for a list write key=[a,b], for a text with commas key='\"a,b\"'."
        )


def _check_job(job: DictConfig, config: type[schema.Config], checks: Sequence[Check]) -> None:
    resolved = validation.typed(job)
    if not isinstance(resolved, config):
        raise ConfigError(
            f"The config must have the keys of {config.__name__}. "
            f"Received: one of {type(resolved).__name__}. Leave out --config-name."
        )
    validation.check_environment(resolved)
    for check in checks:
        check(resolved)


def task(function: Callable[[DictConfig], Any], config: DictConfig) -> Any:
    """Runs the task of a Hydra main; in a single run an error of it ends it in one line."""
    try:
        return function(config)
    except Exception as error:
        if HydraConfig.get().mode == RunMode.RUN:
            sys.exit(boundary.failed(error))
        raise
