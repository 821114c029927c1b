"""The composed config as its dataclass, checked before a backend is loaded."""

from __future__ import annotations

import os
from typing import Any

from omegaconf import DictConfig, OmegaConf

from l2keras_experiments.config import nodes, schema
from l2keras_experiments.config.compatibility import check_model
from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.data.datasets import check_data_config, input_kind
from l2keras_experiments.runtime import device
from l2keras_experiments.tracking import database
from l2keras_experiments.training.objectives import check_training
from l2keras_experiments.training.optimizers import check_optimizer_config
from l2keras_experiments.training.regularization import check_method, check_with_optimizer
from l2keras_experiments.training.selection import check_monitored_names, check_stopping


def typed(config: DictConfig) -> Any:
    """The config as its dataclass, checked.

    Raises:
        ConfigError: a mandatory or an impossible value.
    """
    missing = OmegaConf.missing_keys(config)
    if missing:
        raise ConfigError(
            f"Every key must have a value. Received: {', '.join(sorted(missing))} without one. "
            "Set it, such as key=value."
        )
    resolved = nodes.to_config(config)
    schema.check(resolved)
    check_data_config(resolved.data)
    check_model(resolved.model, input_kind(resolved.data), resolved.data.name)
    check_optimizer_config(resolved.optimizer)
    check_method(resolved.regularization)
    check_with_optimizer(resolved.regularization, resolved.optimizer)
    check_training(resolved.training)
    check_stopping(resolved.training)
    if resolved.model.is_built_in:
        check_monitored_names(resolved.training)
    return resolved


def check_environment(config: schema.Config) -> None:
    """Raises ConfigError for a store or a backend that cannot be, as configured or in the shell."""
    database.check(config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or "")
    device.check_backend(config.backend)
