"""What a WeightDecay holds: it can be pickled, and its start outlives a restore."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from l2keras import WeightDecay
from tests.support.models import dense_model, fit_zeros, kernel, mse, relative_distance

ETA, LAM = 0.5, 0.5
FACTOR = 1 - ETA * LAM

pytestmark = pytest.mark.usefixtures("float64")


def compiled() -> Any:
    model = dense_model()
    model.compile(keras.optimizers.SGD(ETA), mse)
    return model


@pytest.mark.parametrize("copied", [lambda c: pickle.loads(pickle.dumps(c)), copy.deepcopy])
@pytest.mark.parametrize("arguments", [{}, {"toward": "init"}, {"lazy": True}])
def test_a_callback_can_be_pickled_and_copied(copied: Any, arguments: dict[str, Any]) -> None:
    """Before and after a fit; the copy decays as the callback does."""
    if "lazy" in arguments:
        assert copied(WeightDecay(LAM, lazy=True)).lazy
        return
    decay = copied(WeightDecay(LAM, **arguments))
    fit_zeros(compiled(), 1, [decay])
    again, model = copied(decay), compiled()
    assert again.report == decay.report
    before = kernel(model)
    start = before if arguments else 0.0
    model.get_layer("dense").kernel.assign(before)
    fit_zeros(model, 1, [again])
    assert relative_distance(kernel(model), start + (before - start) * FACTOR) < 1e-12


@pytest.mark.parametrize("first", [True, False])
def test_the_start_outlives_the_process_beside_the_backup(tmp_path: Path, first: bool) -> None:
    """After BackupAndRestore, W - W_0 goes on shrinking toward the W_0 of the first process."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            raise KeyboardInterrupt

    class Move(keras.callbacks.Callback):
        """Puts the weights to 3 when training first begins, behind the decay's back."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 0:
                self.model.get_layer("dense").kernel.assign(np.full((3, 2), 3.0))

    def callbacks(*more: Any) -> list[Any]:
        own = [
            WeightDecay(LAM, toward="init"),
            keras.callbacks.BackupAndRestore(str(tmp_path / "backup")),
        ]
        return [*(own if first else own[::-1]), *more]

    model = compiled()
    start = kernel(model)
    with pytest.raises(KeyboardInterrupt):
        fit_zeros(model, 2, callbacks(Move(), Stop()), epochs=2)
    fresh = compiled()
    fresh.get_layer("dense").kernel.assign(np.full((3, 2), 7.0))  # another initialization
    fit_zeros(fresh, 2, callbacks(), epochs=2)
    expected = start + (3.0 - start) * FACTOR**4
    assert relative_distance(kernel(fresh), expected) < 1e-12
    assert not (tmp_path / "backup").exists()


def test_a_backup_without_its_start_is_refused(tmp_path: Path) -> None:
    """A backup that was written without W_0 is not taken for the start."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            raise KeyboardInterrupt

    backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    with pytest.raises(KeyboardInterrupt):
        fit_zeros(compiled(), 1, [backup, Stop()], epochs=2)
    with pytest.raises(ValueError, match=r"W_0 from before the backup.*Pass toward="):
        fit_zeros(compiled(), 1, [backup, WeightDecay(LAM, toward="init")], epochs=2)


def test_a_start_taken_from_trained_weights_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Weights that an optimizer has moved before may not be the start: it warns."""
    model = compiled()
    fit_zeros(model, 1)
    fit_zeros(model, 1, [WeightDecay(LAM, toward="init")])
    assert [r.levelname for r in caplog.records if "the optimizer has made steps" in r.message] == [
        "WARNING"
    ]
