"""The largest size of a config, so that none takes minutes or all memory.

Some lines of YAML may stand for billions of values: by aliases of aliases, or by interpolations of
interpolations. `loading` limits the number of files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import yaml  # type: ignore[import-untyped]  # it publishes no types
from omegaconf import _utils, basecontainer

from l2keras_experiments.config.schema import ConfigError

MOST_VALUES = 5_000  # keys and values of a file, each alias counted as what it stands for
MOST_BYTES = 1_000_000  # of a file
_REFERENCE = re.compile(r"\$\{(?:[\w.]+:)?(\.*)([\w.\[\]-]+)\}")

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


def check_interpolations(config: Any) -> None:
    """Raises ConfigError where what interpolations stand for is too large.

    Args:
        config: A config in mappings and lists, its interpolations as they are written.
    """
    known: dict[tuple[Any, ...], int] = {}

    def added(path: tuple[Any, ...], node: Any) -> int:
        """The number of values that interpolations in a node add; that of a cycle ends it."""
        if path not in known:
            known[path] = 0
            total = 0
            for inner in _parts(path, node, config):
                total += added(*inner) if isinstance(node, dict | list) else 1 + added(*inner)
                if total > MOST_VALUES:
                    raise ConfigError(
                        f"Interpolations must stand for at most {MOST_VALUES} values. Received: "
                        f"more, in `{'.'.join(map(str, path)) or '.'}`. "
                        "Refer to fewer keys with ${...}."
                    )
            known[path] = total
        return known[path]

    added((), config)


def _parts(path: tuple[Any, ...], node: Any, config: Any) -> Iterator[tuple[Any, Any]]:
    """What is in a mapping or list; of a text, all values inside of the nodes it refers to."""
    if isinstance(node, dict | list):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        yield from (((*path, key), inner) for key, inner in items)
    elif isinstance(node, str):
        for dots, name in _REFERENCE.findall(node):
            target = path[: len(path) - len(dots)] if dots else ()
            target += tuple(part for part in re.split(r"[.\[\]]+", name) if part)
            referenced = config
            with suppress(KeyError, IndexError, TypeError, ValueError):  # it is not there
                for key in target:
                    is_list = isinstance(referenced, list)
                    referenced = referenced[int(key)] if is_list else referenced[key]
                yield from _leaves(target, referenced)


def _leaves(path: tuple[Any, ...], node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, dict | list):
        for inner_path, inner in _parts(path, node, None):
            yield from _leaves(inner_path, inner)
    else:
        yield path, node
