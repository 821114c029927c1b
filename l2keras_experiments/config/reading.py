"""How config files are read: up to a size, so that no file takes seconds or all memory.

A YAML file of some lines may stand for billions of values: aliases of aliases.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import yaml
from omegaconf import _utils, basecontainer

from l2keras_experiments.config.schema import ConfigError

MOST_VALUES = 5_000  # keys and values of a file, each alias counted as what it stands for
MOST_BYTES = 1_000_000  # of a file

_loader = _utils.get_yaml_loader


def install() -> None:
    """Makes OmegaConf read every file and text of this process so."""
    for module in (_utils, basecontainer):
        module.get_yaml_loader = limited_loader  # type: ignore[attr-defined]  # imported there


def limited_loader() -> Any:
    """OmegaConf's class of YAML loaders, which raises ConfigError for a file that is too large."""

    class Loader(_loader()):  # type: ignore[misc]  # made by a function
        def __init__(self, stream: Any) -> None:
            with suppress(AttributeError, OSError):  # a text, or a file in a wheel
                if os.fstat(stream.fileno()).st_size > MOST_BYTES:
                    raise _too_large(str(stream.name), f"{MOST_BYTES} bytes")
            super().__init__(stream)
            self.number = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.number += 1
            if self.number > MOST_VALUES:
                raise _too_large(self.name, f"{MOST_VALUES} keys and values")
            return super().compose_node(parent, index)

        def get_single_node(self) -> Any:
            node = super().get_single_node()
            if node is not None and _size(node, {}) > MOST_VALUES:
                raise _too_large(self.name, f"{MOST_VALUES} keys and values")
            return node

    return Loader


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of nodes in a tree without aliases; a node inside of itself counts once."""
    if id(node) not in known:
        known[id(node)] = 1
        parts = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        total = 1 + sum(_size(part, known) for part in parts)
        known[id(node)] = min(total, MOST_VALUES + 1)  # the number itself could be huge
    return known[id(node)]


def _too_large(name: str, limit: str) -> ConfigError:
    return ConfigError(
        f"A config file must have at most {limit}, with aliases written out. "
        f"Received: {name}, which has more. Take out aliases (*name), or make it smaller."
    )
