"""A composed config as MLflow shows it: dotted keys, plain values, no passwords."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from l2keras_experiments.config import credentials, sealing


def recorded(config: DictConfig) -> DictConfig:
    """A copy of the config for the record, without passwords in its addresses.

    What its sweep has planned is left out: the tag `config_hash` has the same value.
    """
    plain: Any = OmegaConf.to_container(config)
    plain.get("tracking", {}).pop("planned", None)
    config = OmegaConf.create(plain)
    for key, text in sealing.texts(OmegaConf.to_container(config, resolve=True)):
        if "://" in text and (shown := credentials.masked_address(text)) != text:
            OmegaConf.update(config, key, shown)
    return config


def flatten(config: DictConfig) -> dict[str, Any]:
    """Dotted keys to plain values, as MLflow shows them.

    A mapping whose keys are no identifiers, such as patterns of paths, is one value: names of
    MLflow's parameters hold no `*`.
    """
    flat: dict[str, Any] = {}

    def walk(node: Any, prefix: str) -> None:
        for key, value in node.items():
            if isinstance(value, dict) and all(str(name).isidentifier() for name in value):
                walk(value, f"{prefix}{key}.")
            else:
                flat[f"{prefix}{key}"] = getattr(value, "value", value)

    walk(OmegaConf.to_container(config, resolve=True), "")
    return flat
