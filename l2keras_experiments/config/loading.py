"""How Hydra's loader composes: groups that name a target take any key, and it can be imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf

from l2keras_experiments.config import schema, targets

_OURS = ("hydra", "schema", "main")  # providers of configs whose folders hold no modules


class OpenLoader(ConfigLoaderImpl):
    """Hydra's, with `model.key=value` for keys that the option does not list."""

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        """Composes, and makes the folders of the search path importable."""
        config = super().load_configuration(*args, **kwargs)
        targets.make_importable(folders(config.hydra.runtime))
        return config

    def _compose_config_from_defaults_list(self, *args: Any, **kwargs: Any) -> DictConfig:
        config = super()._compose_config_from_defaults_list(*args, **kwargs)
        for group in schema.open_groups(schema.Config):
            node = config._get_node(group)
            if isinstance(node, DictConfig) and not (node._is_none() or node._is_missing()):
                OmegaConf.set_struct(node, False)
        return config


def folders(runtime: Any) -> Iterator[Path]:
    """The folders of --config-dir and hydra.searchpath, from `hydra.runtime`: the user's own."""
    for source in runtime.config_sources:
        if source.schema == "file" and source.provider not in _OURS:
            yield Path(source.path)
