"""A run that is interrupted and goes on ends as one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import cli
from experiments.data import load_data
from experiments.trial import TrialResult, run_trial
from tests.support.runs import Compose

pytestmark = pytest.mark.usefixtures("eager_steps")

# Dropout, momentum, a schedule and BatchNorm: everything that has a state.
SETTINGS = {
    "mlp": ["model.dropout=0.3", "optimizer=momentum", "optimizer.schedule=cosine"],
    "cnn": ["model=cnn", "model.width=4", "model.dropout=0.3", "optimizer=adam"],
    "float16": ["training.mixed_precision=float16", "optimizer=adam", "regularization=coupled"],
}


class Interruption(Exception):
    """What a kill is, as far as a test can go on after it."""


def trained(composed: Compose, overrides: list[str], **kept: Any) -> TrialResult:
    small = ["data.num_train=96", "training.epochs=4", "training.batch_size=32"]
    config = cli.typed(composed("config", *small, *overrides))
    from experiments import device

    device.set_up(config)
    data = load_data(config.data, config.seed, config.training.dtype.value)
    try:
        return run_trial(config, data, **kept)
    finally:
        device.set_up(cli.typed(composed("config")))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_resumed_run_ends_with_the_same_bits(
    composed: Compose, tmp_path: Path, name: str
) -> None:
    """Killed in its third epoch and launched again: weights and history equal to the last bit."""
    path = tmp_path / "run.state"
    seen: list[int] = []

    def kill(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == 2:  # trained, told, and not yet kept
            raise Interruption

    whole = trained(composed, SETTINGS[name])
    with pytest.raises(Interruption):
        trained(composed, SETTINGS[name], on_epoch=kill, checkpoint_path=path)
    resumed = trained(
        composed, SETTINGS[name], on_epoch=lambda epoch, _: seen.append(epoch), checkpoint_path=path
    )
    assert seen == [0, 1, 2, 3]
    assert resumed.history == whole.history
    for ours, theirs in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)
    assert resumed.seconds > 0


def test_without_its_checkpoint_a_run_of_two_parts_would_differ(composed: Compose) -> None:
    """What the test above compares does move: other epochs give other weights."""
    longer = trained(composed, [*SETTINGS["mlp"], "training.epochs=5"])
    shorter = trained(composed, SETTINGS["mlp"])
    pairs = zip(longer.model.get_weights(), shorter.model.get_weights(), strict=True)
    assert any(not np.array_equal(a, b) for a, b in pairs)


def test_a_run_that_had_ended_is_not_trained_again(composed: Compose, tmp_path: Path) -> None:
    """A checkpoint of the last epoch: the history comes back, and no step is taken."""
    path = tmp_path / "run.state"
    first = trained(composed, SETTINGS["mlp"], checkpoint_path=path)
    again = trained(composed, SETTINGS["mlp"], checkpoint_path=path)
    assert again.history == first.history
    for ours, theirs in zip(again.model.get_weights(), first.model.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)
