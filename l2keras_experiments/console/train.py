"""One training run, or a sweep of them."""

from __future__ import annotations

from typing import Any

import hydra
from omegaconf import DictConfig

from l2keras_experiments.commands import command_line
from l2keras_experiments.config.paths import CONFIGS
from l2keras_experiments.config.schema import Config
from l2keras_experiments.sweeps.job import job


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
def _main(node: DictConfig) -> Any:
    return command_line.task(job, node)


def main() -> None:
    """Runs what sys.argv says.

    Raises:
        ConfigError: something in it is wrong; no file is left.
    """
    command_line.launch(_main, Config, "train")
