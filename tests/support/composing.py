"""Configs composed as Hydra does, of which each choice of options is composed once.

Hydra takes 0.1 s for a config, most of it to find and read the files of the options. What sets
single values comes last in Hydra, too.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from l2keras_experiments.config import loading, reading, schema, sealing
from l2keras_experiments.config.schema import CompareConfig, TuneConfig

# Those that are in no group, as model.width is: an option is chosen by the name of a group alone.
ALONE = {key for kind in (CompareConfig, TuneConfig) for key, _, _ in schema.keys(kind)}


class Composer:
    """What `hydra.compose` returns for a name and overrides."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], tuple[DictConfig, Any]] = {}

    def __call__(self, name: str, *overrides: str) -> DictConfig:
        values = [word for word in overrides if _is_value(word)]
        parsed = OverridesParser.create().parse_overrides(values)
        swept = any(override.is_sweep_override() for override in parsed)  # which is a mistake
        if swept or any(word.startswith("hydra.") for word in overrides):  # files may be new
            return compose(name, list(overrides))
        try:
            return self._with(parsed, name, *(word for word in overrides if word not in values))
        except OmegaConfBaseException:  # of a mistake, which Hydra has words of its own for
            return compose(name, list(overrides))

    def _with(self, values: list[Override], *options: str) -> DictConfig:
        if options not in self._known:
            node = compose(options[0], list(options[1:]), return_hydra_config=True)
            runtime = node.hydra.runtime
            with open_dict(node):
                del node["hydra"]
            self._known[options] = node, runtime
        known, runtime = self._known[options]
        node = copy.deepcopy(known)
        for override in values:
            OmegaConf.update(node, override.key_or_group, override.value(), merge=True)
        # As the loader does at the end.
        reading.check_interpolations(OmegaConf.to_container(node))
        loading.enter(runtime)
        with read_write(node), open_dict(node):
            sealing.mask(node)
        return node


def _is_value(override: str) -> bool:
    """Whether it sets one value of the config, and chooses no option."""
    key = override.partition("=")[0]
    return key in ALONE or bool(re.fullmatch(r"(?!hydra\.)\w+(\.\w+)+", key))
