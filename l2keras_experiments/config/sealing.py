"""How Hydra composes a config of the experiments: no secret is in the result.

What Hydra composes it also writes: to .hydra/, multirun.yaml, the pickles of submitit. So a secret
is masked as soon as it is composed, whether it comes from an argument or a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import hydra._internal.hydra as hydra_internal
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from l2keras_experiments.config import credentials
from l2keras_experiments.config.loading import OpenLoader

MASKED = (
    "hydra.overrides.",
    "hydra.job.override_dirname",
    "hydra.job.env_set.",
)  # by `_mask_hydra`

# Texts and folders of Hydra's, and what `_mask_hydra` masks.
UNCHECKED = ("help", "hydra_help", "runtime", "overrides")


class MaskingLoader(OpenLoader):
    """The loader with addresses in their masked form."""

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        config = super().load_configuration(*args, **kwargs)
        with read_write(config), open_dict(config):
            mask(config)
        credentials.mask_output()
        return config


def install() -> None:
    """Makes every Hydra of this process compose so; the launchers' processes inherit it."""
    hydra_internal.ConfigLoaderImpl = MaskingLoader  # type: ignore[attr-defined]


def mask(config: DictConfig) -> None:
    """Replaces the secrets in a composed config by what `credentials.revealed` turns back.

    Raises:
        ConfigError: a secret in the address of another key.
    """
    container: Any = OmegaConf.to_container(config)
    for part, value in container.get("hydra", {}).items():
        if part not in UNCHECKED:
            value = _without(value, "env_set", "override_dirname") if part == "job" else value
            credentials.check_hydra(f"hydra.{part}", value)
    for key, text in texts(container):
        if key not in credentials.KEYS and not key.startswith(MASKED):
            credentials.check_no_secret(key, text)
    for key in credentials.KEYS:
        group, _, name = key.partition(".")
        section = config.get(group)
        raw = OmegaConf.to_container(section).get(name) if section else None  # type: ignore[union-attr]
        if isinstance(raw, str) and credentials.masked_address(raw) != raw:
            section[name] = credentials.sealed(section[name])
    if "hydra" in config:
        _mask_hydra(config.hydra)


def _mask_hydra(config: DictConfig) -> None:
    # With their interpolations: some are of a running job, some of the environment.
    overrides: Any = OmegaConf.to_container(config.overrides)
    job: Any = OmegaConf.to_container(config.job)
    for part in ("task", "hydra"):
        words = [credentials.sealed_override(word) for word in overrides[part]]
        config.overrides[part] = words
    config.job.override_dirname = credentials.masked(job["override_dirname"])
    for name, value in job["env_set"].items():
        if value == credentials.MASK:  # it is in the environment already
            del config.job.env_set[name]
        elif isinstance(value, str) and credentials.is_secret(str(name), value):
            os.environ[str(name)] = config.job.env_set[name]
            del config.job.env_set[name]


def _without(node: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in keys}


def texts(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The texts in a container with their dotted keys, interpolations as they are written."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from texts(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            yield f"{prefix}{key}", value
