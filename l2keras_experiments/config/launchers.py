"""Launchers of Hydra's plugins, as configs/hydra/launcher extends them."""

from __future__ import annotations

import os

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from l2keras_experiments.config import program
from l2keras_experiments.config.schema import ConfigError

# Option of hydra/launcher: the package that brings the launcher.
PACKAGES = {
    "joblib": "hydra-joblib-launcher",
    "ray": "hydra-ray-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
}


def register() -> None:
    """Makes the launchers of the installed plugins known as `<option>_plugin`.

    configs/ has a file named as the option, which extends it. Of equal names Hydra makes one,
    and warns.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # ray reports to its makers otherwise
    Plugins.instance()  # loads the plugins, which put their launchers into the store
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    for option in PACKAGES:
        if f"{option}.yaml" in launchers:
            launchers[f"{option}_plugin.yaml"] = launchers.pop(f"{option}.yaml")
    if _is_installed("submitit_local"):
        # Hydra's own search leaves out its module, which could not be imported without submitit.
        from hydra_plugins.l2keras_sweeps._queueing import QueueingLocalLauncher

        Plugins.instance().register(QueueingLocalLauncher)


def check_installed(option: str) -> None:
    """Raises ConfigError where `option` needs a plugin that is not installed."""
    if option in PACKAGES and not _is_installed(option):
        raise ConfigError(
            f"hydra/launcher={option} needs {PACKAGES[option]}. Received: it is not installed. "
            f"Install it with: {program.install('cluster')}"
        )


def _is_installed(option: str) -> bool:
    return f"{option}_plugin.yaml" in ConfigStore.instance().repo["hydra"]["launcher"]
