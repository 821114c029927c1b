"""The main job: every way to write one lambda, side by side."""

from __future__ import annotations

from typing import Any

import hydra
from omegaconf import DictConfig

from l2keras_experiments.commands import command_line
from l2keras_experiments.config.paths import CONFIGS
from l2keras_experiments.config.schema import CompareConfig
from l2keras_experiments.reports.comparison.arms import check_comparison
from l2keras_experiments.reports.comparison.launch import compare


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="compare")
def _main(node: DictConfig) -> Any:
    return command_line.task(compare, node)


def main() -> None:
    """Runs what sys.argv says.

    Raises:
        ConfigError: something in it is wrong; no file is left.
    """
    command_line.launch(_main, CompareConfig, "compare", check_comparison)
