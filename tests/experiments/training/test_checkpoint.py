"""A run that is interrupted and goes on ends as one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2keras_experiments.commands import validation
from l2keras_experiments.data.datasets import load_data
from l2keras_experiments.runtime import durable
from l2keras_experiments.training import checkpoint
from l2keras_experiments.training.checkpoint import Progress
from l2keras_experiments.training.trial import TrialResult, run_trial
from tests.support import factorial
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
    config = validation.typed(composed("config", *small, *overrides))
    from l2keras_experiments.runtime import device

    device.set_up(config)
    data = load_data(config.data, config.seed, config.training.dtype.value)
    try:
        return run_trial(config, data, **kept)
    finally:
        device.set_up(validation.typed(composed("config")))


@pytest.mark.parametrize("name", factorial.sample(SETTINGS, 1))
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


def a_checkpoint(path: Path) -> bytes:
    """Two arrays after two epochs."""
    arrays = [np.array([[0.5, -2.0]], "float32"), np.arange(3)]
    checkpoint.write(path, arrays, Progress({"loss": [1.0, 0.25]}, 7.0))
    return path.read_bytes()


def damages(whole: bytes) -> dict[str, bytes]:
    """Every byte with one bit flipped, every shorter file, and files that are something else."""
    flipped = {
        f"bit {i % 8} of byte {i}": whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :]
        for i in range(len(whole))
    }
    shorter = {f"{length} bytes": whole[:length] for length in range(len(whole))}
    others = {
        "longer": whole + b"\0",
        "without a checksum": whole.partition(b"\n")[2],
        "noise": b"noise\n",
    }
    return {**flipped, **shorter, **others}


def test_no_damage_is_overlooked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each damage is named in one line, the file is renamed, and there is nothing to go on from."""
    path = tmp_path / "run.state"
    whole = a_checkpoint(path)
    arrays, progress = checkpoint.read(path) or pytest.fail("there is a checkpoint")
    assert [array.tolist() for array in arrays] == [[[0.5, -2.0]], [0, 1, 2]]
    assert progress == Progress({"loss": [1.0, 0.25]}, 7.0)
    for what, content in damages(whole).items():
        path.write_bytes(content)
        assert checkpoint.read(path) is None, what
        assert not path.exists()
        aside = tmp_path / "run.state.damaged1"
        assert aside.read_bytes() == content
        assert capsys.readouterr().err == (
            f"warning: {path} is damaged: its length or checksum is wrong. "
            "It is now run.state.damaged1; the run begins anew.\n"
        )
        aside.unlink()


def test_what_is_whole_but_not_of_this_run_is_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another run's file, weights of other shapes, and no checkpoint at all."""
    path = tmp_path / "run.state"
    path.write_bytes(a_checkpoint(tmp_path / "other.state"))
    assert checkpoint.read(path) is None
    a_checkpoint(path)
    assert checkpoint.read(path, [(1, 2), (4,)]) is None
    for content in (b"", b"[]\n", b'{"file": "run.state"}\n', b"\xff\n"):
        durable.write(path, [content])
        assert checkpoint.read(path) is None
    assert len(capsys.readouterr().err.splitlines()) == 6
    assert len(list(tmp_path.glob("run.state.damaged*"))) == 6


def test_what_cannot_be_read_is_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder in its place, as a bad sector: named in one line, and the run begins anew."""
    path = tmp_path / "run.state"
    path.mkdir()
    assert checkpoint.read(path) is None
    assert capsys.readouterr().err == (
        f"warning: {path} is damaged: it cannot be read (Is a directory). "
        "It is now run.state.damaged1; the run begins anew.\n"
    )
    a_checkpoint(path)
    assert checkpoint.read(path) is not None


def test_a_damaged_file_outlives_its_run(tmp_path: Path) -> None:
    """What a run that is over leaves behind is what was set aside, and no other run's state."""
    for ending in (checkpoint.ALONE, checkpoint.STACKED):
        a_checkpoint(checkpoint.path_of(tmp_path, "run", ending))
    a_checkpoint(checkpoint.path_of(tmp_path, "run2"))
    damaged = checkpoint.path_of(tmp_path, "run", "state.damaged1")
    damaged.touch()
    checkpoint.remove(tmp_path, "run")
    assert sorted(damaged.parent.iterdir()) == [damaged, checkpoint.path_of(tmp_path, "run2")]


def test_a_damaged_checkpoint_costs_no_bit(composed: Compose, tmp_path: Path) -> None:
    """The run begins anew and ends as one that was never interrupted."""
    path = tmp_path / "run.state"
    whole = trained(composed, SETTINGS["mlp"], checkpoint_path=path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 4
    path.write_bytes(content)
    again = trained(composed, SETTINGS["mlp"], checkpoint_path=path)
    assert again.history == whole.history
    for ours, theirs in zip(again.model.get_weights(), whole.model.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)
