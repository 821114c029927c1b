"""Hydra's loader of configs, with a largest size of what it composes."""

from __future__ import annotations

from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl

from experiments import reading


class LimitedLoader(ConfigLoaderImpl):
    """Hydra's; what it composes has a largest size."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        reading.install()
        super().__init__(*args, **kwargs)
