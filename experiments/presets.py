"""The preset that a tuning ends in: what was found, as a file that experiments.train runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments import tuning
from experiments.paths import CONFIGS
from experiments.schema import Config, ConfigError, TuneConfig
from experiments.search import Tried

PRESETS = CONFIGS / "experiment"
_GROUPS = ("data", "model", "optimizer", "regularization")
_ORIGIN = "# Found by experiments.tune:"


def preset_name(config: TuneConfig) -> str:
    return config.tune.preset or f"tuned_{tuning.words(config)}"


def check_preset(config: TuneConfig) -> None:
    """Raises ConfigError for a name that is none, or that of a preset written by hand."""
    name = preset_name(config)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}", name):
        raise ConfigError(
            "`tune.preset` must be a name of up to 200 letters, digits, dots, dashes and _. "
            f"Received: tune.preset={name}. The file goes to configs/experiment/."
        )
    path = PRESETS / f"{name}.yaml"
    if path.exists() and _ORIGIN not in path.read_text(encoding="utf-8"):
        raise ConfigError(
            f"`tune.preset` must not be a preset written by hand. Received: tune.preset={name}. "
            "Choose another name."
        )


def write_preset(config: TuneConfig, study: str, trials: Sequence[Tried], best: Tried) -> Path:
    """Writes the best trial as a preset; returns its path."""
    path = PRESETS / f"{preset_name(config)}.yaml"
    found = tuning.run_config(config, best.params, config.seed)
    text = _header(config, study, trials, best) + OmegaConf.to_yaml(overrides(found))
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
    return path


def command(config: TuneConfig) -> str:
    """The command that trains with what was found."""
    return f"python -m experiments.train experiment={preset_name(config)}"


def _header(config: TuneConfig, study: str, trials: Sequence[Tried], best: Tried) -> str:
    searched, method = ", ".join(best.params), config.regularization.name
    states = Counter(trial.state for trial in trials)
    counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    several = config.tune.num_seeds > 1
    seeds = f"mean of {config.tune.num_seeds} seeds" if several else "one seed"
    return (
        "# @package _global_\n"
        f"# Question: what does {method} give on {config.data.name} when tuned?\n"
        f"# Scientific: none. Nuisance: {searched}. Fixed: everything else.\n"
        f"# Command: {command(config)}\n"
        f"{_ORIGIN} study {study}\n"
        f"# Its trial {best.number} of {len(trials)} ({counts}):\n"
        f"# {tuning.OBJECTIVE} {best.value:.6g}, {seeds}; the lowest of many: a bit optimistic.\n"
    )


def overrides(config: Config) -> dict[str, Any]:
    """What a preset holds: the options of the groups, and the keys that differ from theirs."""
    tree: dict[str, Any] = {
        "defaults": [{f"override /{group}": getattr(config, group).name} for group in _GROUPS]
    }
    for item in fields(Config):
        value = getattr(config, item.name)
        if item.name in ("tracking", "rerun"):  # what happens to a run, not what it is
            continue
        if item.name in (*_GROUPS, "training"):
            changed = _changed(item.name, value)
            if changed:
                tree[item.name] = changed
        elif value != item.default:
            tree[item.name] = getattr(value, "value", value)
    return tree


def _changed(group: str, section: Any) -> dict[str, Any]:
    """The keys of a section that differ from its option of the group."""
    option = "default" if group == "training" else section.name
    defaults = OmegaConf.structured(type(section))
    base: Any = OmegaConf.merge(defaults, OmegaConf.load(CONFIGS / group / f"{option}.yaml"))
    return {
        item.name: getattr(getattr(section, item.name), "value", getattr(section, item.name))
        for item in fields(section)
        if item.name != "progress" and getattr(section, item.name) != base[item.name]
    }
