"""The preset that a tuning ends in: what was found, as a file that experiments.train runs."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from l2keras_experiments.config import loading, nodes, paths, program
from l2keras_experiments.config.paths import CONFIGS
from l2keras_experiments.config.schema import (
    Config,
    ConfigError,
    OpenGroup,
    TargetGroup,
    TuneConfig,
)
from l2keras_experiments.tuning import recording, space
from l2keras_experiments.tuning.search import Tried

PRESETS = CONFIGS / "experiment"
_GROUPS = ("data", "model", "optimizer", "regularization")
_ORIGIN = re.compile(r"^# Found by .*\btune: study ", re.MULTILINE)


def preset_name(config: TuneConfig) -> str:
    words = re.sub(r"[^A-Za-z0-9_-]+", "-", space.words(config))[:190]
    return config.tune.preset or f"tuned_{words}"


def folder() -> Path:
    """Where presets go: to the user's own config folder, else to configs/ of a checkout."""
    found = _folders()
    return found[0] / "experiment" if found else PRESETS


def _folders() -> list[Path]:
    """The user's own config folders; without one, conf/ of the working directory if installed."""
    return _own_folders() or ([paths.WORK / "conf"] if paths.INSTALLED else [])


def _own_folders() -> list[Path]:
    """Those of --config-dir and hydra.searchpath."""
    if not HydraConfig.initialized():
        return []
    return [path.absolute() for path in loading.folders(HydraConfig.get().runtime)]


def check_preset(config: TuneConfig) -> None:
    """Raises ConfigError for a name that is none, or that of a preset written by hand."""
    name = preset_name(config)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}", name):
        raise ConfigError(
            "`tune.preset` must be a name of up to 200 letters, digits, dots, dashes and _. "
            f"Received: tune.preset={name}. The file goes to {folder()}."
        )
    path = folder() / f"{name}.yaml"
    if path.exists() and not _ORIGIN.search(path.read_text(encoding="utf-8")):
        raise ConfigError(
            f"`tune.preset` must not be a preset written by hand. Received: tune.preset={name}. "
            "Choose another name."
        )


def write_preset(config: TuneConfig, study: str, trials: Sequence[Tried], best: Tried) -> Path:
    """Writes the best trial as a preset; returns its path."""
    path = folder() / f"{preset_name(config)}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = space.run_config(config, best.params, config.seed)
    text = _header(config, study, trials, best) + OmegaConf.to_yaml(overrides(found))
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
    return path


def command(config: TuneConfig) -> str:
    """The command that trains with what was found, in the same config folders."""
    found = _folders()
    flags = ["--config-dir", str(found[0])] if found else []
    if found[1:]:
        flags.append(f"hydra.searchpath=[{','.join(f'file://{path}' for path in found[1:])}]")
    return program.command("train", *flags, f"experiment={preset_name(config)}")


def _header(config: TuneConfig, study: str, trials: Sequence[Tried], best: Tried) -> str:
    searched, method = ", ".join(best.params), config.regularization.name
    states = Counter(trial.state for trial in trials)
    counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    several = config.tune.num_seeds > 1
    seeds = f"mean of {config.tune.num_seeds} seeds" if several else "one seed"
    test = f"# On the test examples: {recording.tested(best)}.\n" if best.test else ""
    return (
        "# @package _global_\n"
        f"# Question: what does {method} give on {config.data.name} when tuned?\n"
        f"# Scientific: none. Nuisance: {searched}. Fixed: everything else.\n"
        f"# Command: {command(config)}\n"
        f"# Found by {program.command('tune')}: study {study}\n"
        f"# Its trial {best.number} of {len(trials)} ({counts}):\n"
        f"# {best.objective.metric} {best.value:.6g}, {seeds}; "
        "the best of many: a bit optimistic.\n"
        f"{test}"
    )


def overrides(config: Config) -> dict[str, Any]:
    """What a preset holds: the options of the groups, and the keys that differ from theirs."""
    options = {group: _option(group, getattr(config, group)) for group in _GROUPS}
    tree: dict[str, Any] = {
        "defaults": [{f"override /{group}": option} for group, option in options.items()]
    }
    for item in fields(Config):
        value = _movable(getattr(config, item.name))
        if item.name in ("tracking", "rerun"):  # what happens to a run, not what it is
            continue
        if item.name in (*_GROUPS, "training"):
            changed = _changed(item.name, options.get(item.name, "default"), value)
            if changed:
                tree[item.name] = changed
        elif value != item.default:
            tree[item.name] = getattr(value, "value", value)
    return tree


def _movable(section: Any) -> Any:
    """A group whose files are found from any working directory."""
    if not isinstance(section, OpenGroup):
        return section
    return replace(section, arguments=_with_movable_files(section.arguments))


def _with_movable_files(value: Any) -> Any:
    """Paths from `${config_dir:}` for files in it or beside it, which move with it; else whole."""
    if isinstance(value, dict):
        return {key: _with_movable_files(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_movable_files(one) for one in value]
    if not (isinstance(value, str) and os.path.isfile(value)):
        return value
    path, own = os.path.abspath(value), [os.path.abspath(folder) for folder in _own_folders()[:1]]
    beside = [folder for folder in own if Path(path).is_relative_to(Path(folder).parent)]
    return f"${{config_dir:}}/{os.path.relpath(path, beside[0])}" if beside else path


def _option(group: str, section: Any) -> str:
    """The option that was chosen; where Hydra does not tell, the nearest with its target."""
    if HydraConfig.initialized():
        return str(HydraConfig.get().runtime.choices[group])
    if not isinstance(section, TargetGroup):
        return str(section.name)
    named = [
        path.stem
        for path in sorted((CONFIGS / group).glob("*.yaml"))
        if nodes.target_of(path) == section.target
    ]
    return min(named, key=lambda option: len(_changed(group, option, section)))


def _changed(group: str, option: str, section: Any) -> dict[str, Any]:
    """The keys of a section that differ from its option; all of them for a user's own option."""
    path = CONFIGS / group / f"{option}.yaml"
    is_own = any((place / group / path.name).exists() for place in _own_folders())
    chosen: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.exists() else {}
    base: Any
    own: Any
    if isinstance(section, OpenGroup):
        base = nodes.group_node(type(section)()) | chosen
        own = nodes.group_node(section)
    else:
        base = OmegaConf.to_container(OmegaConf.structured(type(section))) | chosen
        own = OmegaConf.to_container(OmegaConf.structured(section))
    if is_own:  # whatever it says is said again
        base = {}
    return {
        key: getattr(value, "value", value)
        for key, value in own.items()
        if key != "progress" and (key not in base or _plain(base[key]) != _plain(value))
    }


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)
