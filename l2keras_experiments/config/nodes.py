"""Between what Hydra composes and the dataclasses of the schema.

A group that names a target takes any key, so in Hydra's config it is a plain mapping; in the
dataclass its own keys are fields and the others arguments of the target.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from l2keras_experiments.config import schema, typed_values
from l2keras_experiments.config.schema import Config, ConfigError, OpenGroup, TargetGroup
from l2keras_experiments.config.targets import TARGET


def node_type(config: type[Config]) -> type:
    """A dataclass for Hydra's config store: as `config`, but its open groups take any key."""
    groups, types = schema.open_groups(config), get_type_hints(config)
    described: list[Any] = []
    for item in fields(config):
        if item.name in groups:
            default = functools.partial(_own_keys, groups[item.name]())
            described.append((item.name, dict[str, Any], field(default_factory=default)))
        else:
            described.append((item.name, types[item.name], item))
    return make_dataclass(f"{config.__name__}Node", described, namespace={"SCHEMA": config})


def to_config(node: DictConfig) -> Config:
    """The dataclass of a composed config, its values of their types.

    Raises:
        ConfigError: a config that is not made from one of the schema, or a value of another type.
    """
    schema_type = getattr(OmegaConf.get_type(node), "SCHEMA", None)
    if schema_type is None:
        raise ConfigError(
            "The config must have the keys of schema.Config. Received: a config without them. "
            "List train_schema, compare_schema or tune_schema first among its defaults."
        )
    groups = schema.open_groups(schema_type)
    values: dict[str, Any] = {}
    for item in fields(schema_type):
        part = node[item.name]
        if item.name in groups:
            is_node = OmegaConf.is_config(part)
            mapping = OmegaConf.to_container(part, resolve=True) if is_node else part
            values[item.name] = _open_group(item.name, groups[item.name], mapping, schema_type)
        else:
            values[item.name] = OmegaConf.to_object(part) if OmegaConf.is_config(part) else part
    found: Config = schema_type(**values)
    return found


def to_node(config: Config) -> DictConfig:
    """The node that `to_config` turns back into `config`."""
    groups = schema.open_groups(type(config))
    node = OmegaConf.structured(node_type(type(config)))
    for item in fields(config):
        section = getattr(config, item.name)
        node[item.name] = group_node(section) if item.name in groups else section
    return node  # type: ignore[no-any-return]  # omegaconf has no type for it


def group_node(section: OpenGroup) -> dict[str, Any]:
    """An open group as its option has it: its own keys, the target, the arguments."""
    return {**_own_keys(section), **section.node}


def target_of(option: Path) -> Any:
    """The target that the file of an option names, or None."""
    found: Any = OmegaConf.to_container(OmegaConf.load(option))
    return found.get(TARGET)


def _own_keys(section: OpenGroup) -> dict[str, Any]:
    return {name: getattr(section, name) for name in schema.own_keys(section)}


@functools.cache
def _empty(group: type) -> DictConfig:
    """To be copied, which takes less time than to make it: a sweep has hundreds of jobs."""
    return OmegaConf.structured(group)  # type: ignore[no-any-return]  # omegaconf has no type for it


def _open_group(
    name: str, group: type[OpenGroup], mapping: Any, schema_type: type[Config]
) -> OpenGroup:
    if not isinstance(mapping, Mapping):
        raise ConfigError(
            f"`{name}` must be an option of the group, or a mapping of keys. "
            f"Received: {name}={mapping}. Write {name}=option, or {name}.key=value."
        )
    empty = copy.deepcopy(_empty(group))  # type: ignore[arg-type]  # a class has a hash
    known = schema.own_keys(group)
    for key in known:
        if key in mapping:
            try:
                empty[key] = mapping[key]
            except (OmegaConfBaseException, ValueError):
                full = f"{name}.{key}"
                raise typed_values.mismatch(
                    full, mapping[key], f"{full}={mapping[key]}", schema_type
                ) from None
    found: OpenGroup = OmegaConf.to_object(empty)  # type: ignore[assignment]  # of the group's type
    if isinstance(found, TargetGroup):
        found.target = mapping.get(TARGET)  # type: ignore[assignment]  # checked with its arguments
        known = [*known, TARGET]
    found.arguments = {k: v for k, v in mapping.items() if k not in known}
    return found
