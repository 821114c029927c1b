"""How Hydra's loader composes: groups that name a target take any key, and it can be imported."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from omegaconf import DictConfig, OmegaConf

from l2keras_experiments.config import reading, schema, targets
from l2keras_experiments.config.schema import ConfigError

_OURS = ("hydra", "schema", "main")  # providers of configs whose folders hold no modules

MOST_FILES = 2_000  # of a config, each counted as often as a list of defaults names it


class OpenLoader(ConfigLoaderImpl):
    """Hydra's, with `model.key=value` for keys that the option does not list.

    What it composes has a largest size.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        reading.install()
        super().__init__(*args, **kwargs)
        self.repository = SharedRepository(self.config_search_path)

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        """Composes, and makes the folders of the search path importable."""
        config = super().load_configuration(*args, **kwargs)
        reading.check_interpolations(OmegaConf.to_container(config))
        enter(config.hydra.runtime)
        return config

    def _parse_overrides_and_create_caching_repo(self, *args: Any, **kwargs: Any) -> Any:
        overrides, repository = super()._parse_overrides_and_create_caching_repo(*args, **kwargs)
        return overrides, LimitedRepository(repository)

    def _compose_config_from_defaults_list(self, *args: Any, **kwargs: Any) -> DictConfig:
        config = super()._compose_config_from_defaults_list(*args, **kwargs)
        for group in schema.open_groups(schema.Config):
            node = config._get_node(group)
            if isinstance(node, DictConfig) and not (node._is_none() or node._is_missing()):
                OmegaConf.set_struct(node, False)
        return config


_own: list[Path] = []  # the user's folders, for `config_dir`


def enter(runtime: Any) -> None:
    """Makes the user's folders importable, and known to `${config_dir:}`."""
    _own[:] = folders(runtime)
    targets.make_importable(_own)


def config_dir() -> str:
    """The folder of --config-dir, or the first of hydra.searchpath; for `${config_dir:}`.

    Raises:
        ConfigError: there is none.
    """
    if not _own:
        raise schema.ConfigError(
            "`${config_dir:}` needs a config folder of your own. Received: none. "
            "Pass --config-dir FOLDER."
        )
    return str(_own[0].absolute())


class SharedRepository(ConfigRepository):
    """Hydra's, whose sources are shared with its copies.

    Hydra copies it for each config that it composes, to give the copy other sources. It would copy
    every registered schema with it, which takes half of the time.
    """

    def __deepcopy__(self, known: Any) -> SharedRepository:
        return copy.copy(self)


class LimitedRepository(CachingConfigRepository):
    """Hydra's, which raises ConfigError where a config is made of too many files."""

    def __init__(self, repository: CachingConfigRepository) -> None:
        self.__dict__.update(vars(repository))
        self.number = 0

    def load_config(self, config_path: str) -> Any:
        self.number += 1
        if self.number > MOST_FILES:
            raise ConfigError(
                f"A config must be made of at most {MOST_FILES} files. Received: more, "
                f"{config_path} among them. Take out defaults of the files."
            )
        try:
            return super().load_config(config_path)
        except ValueError as error:  # of Hydra's, which names no file
            kind = re.match(r"Unsupported item value in defaults : (\w+)", str(error))
            if kind is None:
                raise
            raise ConfigError(
                "An option in a list of defaults must read as a text. "
                f"Received: one that reads as {kind[1]} in {config_path}.yaml. Quote it, such as "
                "'1', or rename its file."
            ) from None


def folders(runtime: Any) -> Iterator[Path]:
    """The folders of --config-dir and hydra.searchpath, from `hydra.runtime`: the user's own."""
    for source in runtime.config_sources:
        if source.schema == "file" and source.provider not in _OURS:
            yield Path(source.path)
