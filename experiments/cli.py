"""What the commands share: the typed config in Hydra, early answers to mistakes, --help."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NoReturn

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments import (
    boundary,
    composing,
    composition,
    credentials,
    database,
    device,
    launchers,
    schema,
)
from experiments.data import check_data_config, input_kind
from experiments.fits import check_fits
from experiments.optimizers import check_optimizer_config
from experiments.overrides import check_overrides
from experiments.paths import RUNS
from experiments.regularization import check_method
from experiments.schema import ConfigError

__all__ = ["check_overrides", "flatten", "recorded", "register", "run", "task", "typed"]

Check = Callable[[Any], None]  # raises ConfigError for a typed config that cannot be


def register(name: str, config: type[schema.Config], module: str, template: str = "") -> None:
    """Makes the typed config and its help known to Hydra, under `<name>_schema`."""
    composing.install()
    OmegaConf.register_new_resolver("runs", lambda: str(RUNS), replace=True)
    started = datetime.now()  # Hydra's `now` is another time in each composition
    OmegaConf.register_new_resolver(
        "started", lambda pattern: started.strftime(pattern), use_cache=True, replace=True
    )
    store = ConfigStore.instance()
    store.store(name=f"{name}_schema", node=config)
    launchers.register()
    node = {"app_name": module, "header": "", "footer": "", "template": template}
    store.store(group="hydra/help", name=name, node=node)


def help_text(config: type[schema.Config], module: str, groups: dict[str, list[str]]) -> str:
    """Every group and key with its default and one line, for --help."""
    sweeps = config is schema.Config  # the other commands are no jobs of a sweep
    sweep = " [-m for a sweep over a=1,2,3]" if sweeps else ""
    lines = [f"python -m {module} [key=value ...]{sweep}", "", "Groups:"]
    lines += [f"  {name}={'|'.join(options)}" for name, options in groups.items()]
    lines += ["", "Keys (default; the chosen options of the groups change some):"]
    for key, item, _ in schema.keys(config):
        shown = f"{key}={_shown(item)}"
        lines.append(f"  {shown:44} {item.metadata['help']}")
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


def typed(config: DictConfig) -> Any:
    """The config as its dataclass, checked.

    Raises:
        ConfigError: a mandatory or an impossible value.
    """
    missing = OmegaConf.missing_keys(config)
    if missing:
        raise ConfigError(
            f"Every key must have a value. Received: {', '.join(sorted(missing))} without one. "
            "Set it, such as key=value."
        )
    resolved = OmegaConf.to_object(config)
    if not isinstance(resolved, schema.Config):
        raise ConfigError(
            "The config must have the keys of schema.Config. Received: a config without them. "
            "List train_schema, compare_schema or tune_schema first among its defaults."
        )
    schema.check(resolved)
    check_data_config(resolved.data)
    check_fits(resolved.model.name, input_kind(resolved.data.name), resolved.data.name)
    check_optimizer_config(resolved.optimizer)
    check_method(resolved.regularization)
    return resolved


def recorded(config: DictConfig) -> DictConfig:
    """A copy of the config for the record, without passwords in its addresses."""
    config = config.copy()
    for key, text in composing.texts(OmegaConf.to_container(config, resolve=True)):
        if "://" in text and (shown := credentials.masked_address(text)) != text:
            OmegaConf.update(config, key, shown)
    return config


def flatten(config: DictConfig) -> dict[str, Any]:
    """Dotted keys to plain values, as MLflow shows them."""
    flat: dict[str, Any] = {}

    def walk(node: Any, prefix: str) -> None:
        for key, value in node.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")
            else:
                flat[f"{prefix}{key}"] = getattr(value, "value", value)

    walk(OmegaConf.to_container(config, resolve=True), "")
    return flat


def run(
    main: Callable[[], Any], config: type[schema.Config], name: str, *checks: Check
) -> NoReturn:
    """Runs a Hydra main and ends the process.

    A mistake in the configuration is one line and exit status 2; Ctrl-C and SIGTERM have the
    status that shells give them.

    Args:
        main: Decorated with hydra.main, its config called `name`.
        config: The type of the config.
        name: That of the command in `experiments`.
        checks: What raises ConfigError for a config that this command cannot use.
    """
    boundary.run(lambda: launch(main, config, name, *checks))


def launch(main: Callable[[], Any], config: type[schema.Config], name: str, *checks: Check) -> None:
    """Composes and checks what sys.argv says; if nothing is wrong, Hydra runs it.

    Raises:
        ConfigError: something is wrong; it leaves no files.
    """
    credentials.hide(credentials.sealed_override)
    with composition.mistakes():
        flags = composition.parse(sys.argv[1:])
        sys.argv[1:] = composition.sorted_arguments(sys.argv[1:], flags)
        found = composition.found_by(flags, "config" if name == "train" else name)
        module = f"experiments.{name}"
        register(name, config, module)
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
            register(name, config, module, help_text(config, module, found.groups()))
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
            "use experiments.train."
        )
    if swept and not sweeps:
        raise ConfigError(
            f"Several values need a sweep. Received: {' '.join(map(str, swept))}. "
            "Add -m for a sweep; for a list write key=[a,b], for a text with commas key='\"a,b\"'."
        )


def _check_job(job: DictConfig, config: type[schema.Config], checks: Sequence[Check]) -> None:
    resolved = typed(job)
    if not isinstance(resolved, config):
        raise ConfigError(
            f"The config must have the keys of {config.__name__}. "
            f"Received: one of {type(resolved).__name__}. Leave out --config-name."
        )
    check_environment(resolved)
    for check in checks:
        check(resolved)


def check_environment(config: schema.Config) -> None:
    """Raises ConfigError for a store or a backend that cannot be, as configured or in the shell."""
    database.check(config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or "")
    device.check_backend(config.backend)


def task(function: Callable[[DictConfig], Any], config: DictConfig) -> Any:
    """Runs the task of a Hydra main; in a single run an error of it ends it in one line."""
    try:
        return function(config)
    except Exception as error:
        if HydraConfig.get().mode == RunMode.RUN:
            sys.exit(boundary.failed(error))
        raise
