"""What a study of experiments.tune leaves behind."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from l2keras_experiments.commands import validation
from l2keras_experiments.config.schema import TuneConfig
from l2keras_experiments.tracking.store import Store
from l2keras_experiments.tuning import figures, launch, presets, search, space
from tests.support import factorial
from tests.support.runs import Compose, runs_of


@dataclass
class Tuned:
    """What one study left behind."""

    store: Store
    parent: Any
    children: list[Any]  # by trial, then by start
    trials: list[search.Tried]
    printed: str
    folder: Path

    def artifact(self, name: str) -> Path:
        return Path(self.store.client.download_artifacts(self.parent.info.run_id, name))


@contextlib.contextmanager
def presets_in(folder: Path) -> Any:
    """Presets go to `folder`/experiment, where `hydra.searchpath` finds them."""
    (folder / "experiment").mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presets, "PRESETS", folder / "experiment")
        yield


def left_behind(node: Any, folder: Path, printed: str = "") -> Tuned:
    config: TuneConfig = validation.typed(node)
    store = Store(config.tracking.uri, config.tracking.study)
    [parent] = [run for run in runs_of(store) if run.data.tags.get("kind") == "tuning"]
    name, objective = space.study_name(config), space.objective(config)
    study = search.open_study(launch.storage_url(config), name, config, objective)
    children = sorted(
        runs_of(store, parent), key=lambda r: (int(r.data.tags["trial"]), r.info.start_time)
    )
    return Tuned(store, parent, children, search.tried(study), printed, folder)


def run_tune(composed: Compose, folder: Path, *overrides: str, draws: bool = False) -> Tuned:
    """Searches, and draws the figures with `draws=True`, or with `--full`."""
    node = composed("tune", f"tracking.uri=sqlite:///{folder / 'mlflow.db'}", *overrides)
    printed = io.StringIO()
    with (
        presets_in(folder),
        contextlib.redirect_stdout(printed),
        pytest.MonkeyPatch.context() as patch,
    ):
        if not (draws or factorial.FULL):
            patch.setattr(figures, "figures", lambda trials: [])
        launch.tune(node)
    return left_behind(node, folder, printed.getvalue())
