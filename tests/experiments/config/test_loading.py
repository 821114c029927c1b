"""The user's own folders: their options are found, their modules can be imported."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest
from hydra._internal.utils import get_args_parser

from l2keras_experiments.config import composition, nodes
from tests.support.runs import Compose


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of configs with an option `model=mine`."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    option = tmp_path / "model" / "mine.yaml"
    option.parent.mkdir()
    option.write_text("_target_: mine.net\nwidth: 3\n")
    return tmp_path


def _flags(*words: str) -> argparse.Namespace:
    flags: argparse.Namespace = get_args_parser().parse_args(list(words))
    return flags


def test_a_config_dir_is_searched_and_importable(folder: Path, composed: Compose) -> None:
    found = composition.found_by(_flags("--config-dir", str(folder)), "config")
    assert "mine" in found.options("model")
    assert str(folder) not in sys.path
    node = composition.compose(found, ["model=mine", "model.depth=2"], "train", multirun=False)
    config = nodes.to_config(composition.without_hydra(node))
    assert sys.path[0] == str(folder)
    assert (config.model.target, config.model.arguments) == ("mine.net", {"width": 3, "depth": 2})


def test_so_is_a_folder_of_the_searchpath(folder: Path, composed: Compose) -> None:
    before = list(sys.path)
    node = composed("config", f"hydra.searchpath=[file://{folder}]", "model=mine")
    assert nodes.to_config(node).model.target == "mine.net"
    assert sys.path == [str(folder), *before]


def test_our_own_configs_are_not_importable(composed: Compose) -> None:
    before = list(sys.path)
    composed("config")
    assert sys.path == before


def test_only_the_open_groups_take_any_key(composed: Compose) -> None:
    """A key that nothing reads is still refused elsewhere."""
    composed("config", "data.anything=1", "model.anything=1", "optimizer.anything=1")
    for override in ("training.anything=1", "tracking.anything=1", "anything=1"):
        with pytest.raises(Exception, match="Could not override"):
            composed("config", override)
