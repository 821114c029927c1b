"""One of the runs that train at once: what is kept of it, and how it goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from l2keras._sweep.members import Member, State
from l2keras._sweep.training import Trained
from l2keras_experiments.config.schema import Config
from l2keras_experiments.sweeps.vectorized.stacked_run import StackedRun
from l2keras_experiments.training.regularization import Method


def stacked(path: Path) -> StackedRun:
    """A run that has not begun: two trainable variables and one other."""
    state = State([np.zeros(2), np.zeros(3)], [np.zeros(1)])
    trained = Trained(0, Member(lam=0.1, seed=0, learning_rate=0.5), state)
    return StackedRun(Config(), Method(0.1), trained, {}, checkpoint_path=path)


def stopped(path: Path) -> StackedRun:
    """The same after two epochs that took seven seconds."""
    one = stacked(path)
    one.whole = State([np.full(2, 1.0), np.full(3, 2.0)], [np.full(1, 3.0)], [np.full(4, 4.0)])
    one.history, one.seconds = {"loss": [1.0, 0.5]}, 7.0
    return one


def test_a_run_goes_on_from_what_is_kept(tmp_path: Path) -> None:
    """Each array is in its place, the epochs are counted, the seconds too."""
    path = tmp_path / "state"
    stopped(path).keep()
    resumed = stacked(path)
    resumed.resume()
    state = resumed.trained.state
    parts = [[float(array[0]) for array in part]
             for part in (state.trainable, state.other, state.optimizer)]  # fmt: skip
    assert parts == [[1.0, 2.0], [3.0], [4.0]]
    assert resumed.epochs == 2
    assert resumed.metrics(1) == {"loss": 0.5}
    assert resumed.earlier == resumed.seconds == 7.0


def test_a_run_that_has_diverged_keeps_nothing(tmp_path: Path) -> None:
    """It begins anew."""
    diverged = stopped(tmp_path / "state")
    diverged.trained.status = "diverged"
    diverged.keep()
    assert not (tmp_path / "state").exists()
