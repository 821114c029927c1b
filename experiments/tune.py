"""Searches lambda, and the learning rate if asked, for the lowest validation loss without penalty.

    python -m experiments.tune [overrides]

Launched again it goes on with the same study. It ends with a preset for experiments.train.
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


if __name__ == "__main__":
    command_line.run(_main, TuneConfig, "tune", space.check_tuning, presets.check_preset)
