"""What the commands share: the typed config in Hydra, early answers to mistakes, --help."""

from __future__ import annotations

import atexit
import difflib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments import composing, credentials, launchers, schema, typed_values
from experiments.data import check_data_config, input_kind
from experiments.fits import check_fits
from experiments.optimizers import check_optimizer_config
from experiments.paths import CONFIGS, RUNS
from experiments.regularization import check_method
from experiments.signals import Terminated

# What people type from other projects.
SYNONYMS = {
    "lr": "optimizer.learning_rate",
    "eta": "optimizer.learning_rate",
    "lam": "regularization.lam",
    "lambda": "regularization.lam",
    "weight_decay": "regularization.lam",
    "wd": "regularization.lam",
    "method": "regularization",
    "dataset": "data",
    "batch": "training.batch_size",
}


def register(name: str, config: type[schema.Config], module: str) -> None:
    """Makes the typed config and its help known to Hydra, under `<name>_schema`."""
    composing.install()
    OmegaConf.register_new_resolver("runs", lambda: str(RUNS), replace=True)
    store = ConfigStore.instance()
    store.store(name=f"{name}_schema", node=config)
    store.store(
        group="hydra/help",
        name=name,
        node={
            "app_name": module,
            "header": "",
            "footer": "",
            "template": help_text(config, module),
        },
    )
    launchers.register()


def groups() -> dict[str, list[str]]:
    """The config groups and their options, from the folders."""
    folders = sorted(path for path in CONFIGS.iterdir() if path.is_dir() and path.name != "hydra")
    return {folder.name: sorted(p.stem for p in folder.glob("*.yaml")) for folder in folders}


def help_text(config: type[schema.Config], module: str) -> str:
    """Every group and key with its default and one line, for --help."""
    sweeps = config is schema.Config  # the other commands are no jobs of a sweep
    sweep = " [-m for a sweep over a=1,2,3]" if sweeps else ""
    lines = [f"python -m {module} [key=value ...]{sweep}", "", "Groups:"]
    lines += [f"  {name}={'|'.join(options)}" for name, options in groups().items() if options]
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


def check_overrides(arguments: Sequence[str], config: type[schema.Config]) -> None:
    """Raises ConfigError for a key, group or option that does not exist, naming the nearest."""
    words = [word for word in arguments if ("=" in word or word[:1] == "~") and word[:1] != "-"]
    try:
        overrides = OverridesParser.create().parse_overrides(words)
    except OverrideParseException as exception:
        why = str(exception).partition("\n")[0]
        raise schema.ConfigError(
            f"An override must read key=value. Received: {exception.override} ({why})."
        ) from None
    valid = [key for key, _, _ in schema.keys(config)]
    for override in overrides:
        key = override.key_or_group
        if key == "hydra/launcher":
            _check_launcher(override)
        if key.partition("/")[0] == "hydra" or key.startswith("hydra."):
            continue
        if override.is_delete():
            raise schema.ConfigError(
                f"Keys and groups cannot be taken out. Received: {override.input_line}."
            )
        if key in groups():
            _check_option(key, override)
        elif key not in valid or override.is_add():
            words = [*groups(), *valid]
            raise schema.ConfigError(_unknown("key", override.input_line, key, words))
        else:
            typed_values.check_values(override, config)


def _check_launcher(override: Override) -> None:
    option, options = str(override.value()), launchers.options()
    if option not in options:
        raise schema.ConfigError(_unknown("option", override.input_line, option, options))
    launchers.check_installed(option)


def _check_option(group: str, override: Override) -> None:
    if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        return  # Hydra takes those that match
    options = groups()[group]
    chosen = override.value()
    values = override.sweep_string_iterator() if override.is_sweep_override() else [chosen]
    for value in values:
        if value is None and group == "experiment":
            continue
        if str(value) not in options:
            raise schema.ConfigError(_unknown("option", override.input_line, str(value), options))


def _unknown(kind: str, received: str | None, word: str, valid: Sequence[str]) -> str:
    last = word.lstrip("+").rpartition(".")[2]
    near = [SYNONYMS[last]] if kind == "key" and last in SYNONYMS else []
    near += difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    near += [key for key in valid if key.rpartition(".")[2] == last]
    hint = f"Did you mean {near[0]}?" if near else f"Valid: {', '.join(valid)}."
    return f"There is no such {kind}. Received: {received}. {hint}"


def typed(config: DictConfig) -> Any:
    """The config as its dataclass, checked.

    Raises:
        ConfigError: a mandatory or an impossible value.
    """
    missing = OmegaConf.missing_keys(config)
    if missing:
        raise schema.ConfigError(f"A value is missing. Expected: {', '.join(sorted(missing))}.")
    resolved = OmegaConf.to_object(config)
    if not isinstance(resolved, schema.Config):
        raise TypeError(f"The config must be a schema.Config. Received: {type(resolved)}.")
    schema.check(resolved)
    check_data_config(resolved.data)
    check_fits(resolved.model.name, input_kind(resolved.data.name), resolved.data.name)
    check_optimizer_config(resolved.optimizer)
    check_method(resolved.regularization)
    return resolved


def recorded(config: DictConfig) -> DictConfig:
    """A copy of the config for the record, without passwords in its addresses."""
    config = config.copy()
    if config.tracking.uri is not None:
        config.tracking.uri = credentials.masked_address(config.tracking.uri)
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


def run(main: Callable[[], Any], config: type[schema.Config]) -> NoReturn:
    """Runs a Hydra main and ends the process.

    A mistake in the configuration is one line and exit status 2; Ctrl-C and SIGTERM have the
    status that shells give them.
    """
    status: Any = 0
    credentials.hide(credentials.sealed_override)
    try:
        check_overrides(sys.argv[1:], config)
        main()
    except schema.ConfigError as error:
        status = one_line(error)
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except Terminated:
        status = 128 + signal.SIGTERM
    except SystemExit as end:
        status = end.code
    _end(status)


def _end(status: Any) -> NoReturn:
    """Ends the process at once: to free TensorFlow's graphs one by one can take it minutes."""
    if isinstance(status, str):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as Python itself: ends joblib's workers
    atexit._run_exitfuncs()
    logging.shutdown()
    with suppress(BrokenPipeError):  # `| head` has seen enough
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status or 0)


def task(function: Callable[[DictConfig], Any], config: DictConfig) -> Any:
    """Runs the task of a Hydra main; in a single run a ConfigError ends it in one line."""
    try:
        return function(config)
    except schema.ConfigError as error:
        if HydraConfig.get().mode == RunMode.RUN:
            sys.exit(one_line(error))
        raise


def one_line(error: Exception) -> int:
    """Prints a mistake in the configuration; returns the exit status."""
    print(f"error: {credentials.masked(str(error))}", file=sys.stderr)
    return 2
