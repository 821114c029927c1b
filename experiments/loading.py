"""Hydra's loader of configs, with a largest size of what it composes."""

from __future__ import annotations

from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from omegaconf import DictConfig, OmegaConf

from experiments import reading
from experiments.schema import ConfigError

MOST_FILES = 2_000  # of a config, each counted as often as a list of defaults names it


class LimitedLoader(ConfigLoaderImpl):
    """Hydra's; what it composes has a largest size."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        reading.install()
        super().__init__(*args, **kwargs)

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        """Composes a config whose interpolations stand for a limited number of values."""
        config = super().load_configuration(*args, **kwargs)
        reading.check_interpolations(OmegaConf.to_container(config))
        return config

    def _parse_overrides_and_create_caching_repo(self, *args: Any, **kwargs: Any) -> Any:
        overrides, repository = super()._parse_overrides_and_create_caching_repo(*args, **kwargs)
        return overrides, LimitedRepository(repository)


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
        return super().load_config(config_path)
