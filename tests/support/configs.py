"""Open groups of a config, by the name of their option."""

from __future__ import annotations

from typing import Any, TypeVar

from l2keras_experiments.config import nodes, paths, schema
from l2keras_experiments.config.schema import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    TargetGroup,
)

Group = TypeVar("Group", bound=TargetGroup)


def data(name: str = "digits", /, **keys: Any) -> DataConfig:
    """The target of an option of `data`; keys that are not named have the schema's defaults."""
    return of_option(DataConfig, "data", name, keys)


def model(name: str = "mlp", /, **keys: Any) -> ModelConfig:
    """The same for `model`."""
    return of_option(ModelConfig, "model", name, keys)


def optimizer(name: str = "sgd", /, **keys: Any) -> OptimizerConfig:
    """The same for `optimizer`."""
    return of_option(OptimizerConfig, "optimizer", name, keys)


def of_option(kind: type[Group], group: str, name: str, keys: dict[str, Any]) -> Group:
    """A group with the target of an option."""
    target = nodes.target_of(paths.CONFIGS / group / f"{name}.yaml")
    return of_target(kind, target, **keys)


def of_target(kind: type[Group], target: str, /, **keys: Any) -> Group:
    """A group with any target: its own keys are fields, all others are arguments."""
    own = schema.own_keys(kind)
    fields = {name: value for name, value in keys.items() if name in own}
    arguments = {name: value for name, value in keys.items() if name not in own}
    return kind(target=target, arguments=arguments, **fields)
