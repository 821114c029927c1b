"""Searches lambda, and the learning rate if asked, for the lowest validation loss without penalty.

Launched again it goes on with the same study. It ends with a preset for `train`.
"""

from __future__ import annotations

from typing import Any

import hydra
from omegaconf import DictConfig

from l2keras_experiments.commands import command_line
from l2keras_experiments.config.paths import CONFIGS
from l2keras_experiments.config.schema import TuneConfig
from l2keras_experiments.tuning import presets, space
from l2keras_experiments.tuning.launch import tune


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="tune")
def _main(node: DictConfig) -> Any:
    return command_line.task(tune, node)


def main() -> None:
    """Runs what sys.argv says.

    Raises:
        ConfigError: something in it is wrong; no file is left.
    """
    command_line.launch(_main, TuneConfig, "tune", space.check_tuning, presets.check_preset)
