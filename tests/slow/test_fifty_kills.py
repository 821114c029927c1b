"""A sweep that is killed again and again, at any instant: nothing is lost, nothing done twice."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from l2keras_experiments.tracking.store import Store
from tests.support.sweep_processes import EPOCHS, check_complete, launch, wait_for_training


@pytest.mark.parametrize("launcher", ["basic", "isolated"])
def test_fifty_kills(missing_uri: str, tmp_path: Path, launcher: str) -> None:
    """A 20-run sweep that is killed at 25 random instants, twice, ends with 20 whole runs.

    A kill comes up to 4 s after a run has begun, or, one in five, anywhere in the start.
    """
    sweep = ["regularization=half_l2,decoupled", "seed=range(10)", f"hydra/launcher={launcher}"]
    chance = random.Random(launcher)
    store = Store(missing_uri, "l2keras")
    kills, epochs = 0, 3 * EPOCHS  # more training than there is time for between 25 kills
    while kills < 25:
        process = launch(missing_uri, tmp_path / "sweep", *sweep, epochs=epochs)
        if chance.random() < 0.2:
            time.sleep(chance.uniform(0.0, 15.0))
        else:
            wait_for_training(process, store)
            time.sleep(chance.uniform(0.0, 4.0))
        assert process.poll() is None, f"over after {kills} kills: {process.communicate()[0]}"
        kills += 1
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, f"after {kills} kills: {output}"
    process = launch(missing_uri, tmp_path / "sweep", *sweep, epochs=epochs)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    check_complete(store, 20, epochs)
