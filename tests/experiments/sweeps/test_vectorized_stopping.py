"""Early stopping and rare validation of runs trained at once: each ends as it does alone."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from l2keras._sweep import training
from l2keras._sweep.group import Group
from l2keras_experiments.commands import validation
from l2keras_experiments.config.schema import Config
from l2keras_experiments.data.datasets import load_data
from l2keras_experiments.runtime import device
from l2keras_experiments.sweeps import job
from l2keras_experiments.sweeps.vectorized import jobs
from l2keras_experiments.sweeps.vectorized.trainer import GroupTrainer
from l2keras_experiments.tracking.store import Store
from l2keras_experiments.training.trial import TrialResult, run_trial
from tests.support import factorial
from tests.support.groups import fail, histories, ids, kept, launch, relaunch
from tests.support.runs import Compose

pytestmark = pytest.mark.usefixtures("eager_steps", "programs_once")

# Noisy least squares: the validation loss of the first two rises soon, the sooner the larger
# lambda; that of the third falls to the end.
POINTS = [
    ["regularization.lam=0.0", "optimizer.learning_rate=0.1"],
    ["regularization.lam=3.0", "optimizer.learning_rate=0.1"],
    ["regularization.lam=0.0", "optimizer.learning_rate=0.01"],
]
SMALL = ["data=teacher_student", "data.num_train=90", "data.num_features=8",
         "data.target_noise=2.0", "model=linear", "regularization=half_l2", "training.epochs=8",
         "training.batch_size=45", "training.progress=false",
         "tracking.log_model=false"]  # fmt: skip
PATIENCE = "training.early_stopping.patience=2"


def nodes_of(composed: Compose, *overrides: str) -> list[DictConfig]:
    return [composed("config", *SMALL, *point, *overrides) for point in POINTS]


def train_at_once(all_configs: list[Config]) -> tuple[GroupTrainer, dict[int, list[int]]]:
    """The runs, and the steps under which the best epochs of each are reported again."""
    device.set_up(all_configs[0])
    trainer = GroupTrainer(all_configs)
    restored: dict[int, list[int]] = {number: [] for number in range(len(all_configs))}
    trainer.fit(
        list(restored),
        lambda *_: None,
        on_restored=lambda number, epochs, _: restored[number].append(epochs),
    )
    return trainer, restored


def train_alone(config: Config) -> TrialResult:
    return run_trial(config, load_data(config.data, config.seed, config.training.dtype.value))


@pytest.mark.parametrize(
    ("overrides", "tolerance", "epochs", "sizes"),
    factorial.sample(
        [
            pytest.param([], 1e-5, [6, 3, 8], [3, 1, 3], id="best weights"),
            pytest.param(
                ["training.early_stopping.restore_best=false", "training.dtype=float64",
                 "+optimizer.use_ema=true", "+optimizer.ema_momentum=0.5"],
                1e-10, [8, 6, 8], [3, 3], id="last weights, averaged",
            ),
        ],
        1,
    ),
)  # fmt: skip
def test_each_stops_where_it_does_alone(
    composed: Compose,
    overrides: list[str],
    tolerance: float,
    epochs: list[int],
    sizes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same epochs, metrics, weights and test metrics.

    The members that still train move to a smaller stack; the test examples need the whole one.
    """
    loaded, load = [], Group.load

    def noted(self: Group, *args: Any) -> None:
        loaded.append(self.size)
        load(self, *args)

    monkeypatch.setattr(Group, "load", noted)
    monkeypatch.setattr(training, "COMPILE_SECONDS", 0.0)
    all_configs = [validation.typed(node) for node in nodes_of(composed, PATIENCE, *overrides)]
    trainer, restored = train_at_once(all_configs)
    assert [stacked.epochs for stacked in trainer.runs] == epochs
    assert loaded == sizes
    for number, config in enumerate(all_configs):
        stacked, alone = trainer.runs[number], train_alone(config)
        close = functools.partial(pytest.approx, rel=tolerance, abs=tolerance)
        final = {key: values[-1] for key, values in alone.history.items()}
        assert stacked.final == close(final)
        assert stacked.test == close(alone.test)
        repeats = len(alone.history["loss"]) - stacked.epochs
        assert restored[number] == [stacked.epochs] * repeats
        assert repeats == (not overrides and number < 2)
        for key, values in alone.history.items():
            trained = values[: stacked.epochs]
            assert stacked.history[key] == close(trained), key
        state = stacked.trained.state
        for ours, theirs in zip(
            [*state.trainable, *state.other], alone.model.get_weights(), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def test_what_is_validated_now_and_then_is_so_at_once(composed: Compose) -> None:
    """Of eight epochs the fifth and the last are validated; the others have nan."""
    nodes = nodes_of(composed, "training.validation_freq=5")
    all_configs = [validation.typed(node) for node in nodes]
    trainer, _ = train_at_once(all_configs)
    alone = train_alone(all_configs[1])
    history = trainer.runs[1].history
    assert np.flatnonzero(np.isfinite(history["val_data_loss"])).tolist() == [4, 7]
    assert history.keys() == alone.history.keys()
    for key, values in alone.history.items():
        assert history[key] == pytest.approx(values, rel=1e-5, nan_ok=True), key
    assert "val_data_loss" not in trainer.runs[1].metrics(0)


def test_a_killed_group_ends_as_one_that_was_not(
    composed: Compose, shared_uri: str, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One had stopped, one was past its best epoch; both are the runs trained one by one."""
    nodes = nodes_of(composed, PATIENCE, f"tracking.uri={uri}")

    def kill(number: int, epoch: int) -> None:
        if (number, epoch) == (0, 4):
            fail()

    launch(nodes, kill, monkeypatch)
    store = Store(uri, "l2keras")
    first = ids(store)
    assert len([path for path in kept(store) if path.suffix == ".best"]) == 3
    outcomes, trained = relaunch(nodes, monkeypatch)
    assert sorted(trained) == [5, 5, 6, 7]
    assert ids(store) == first
    assert not kept(store)
    nodes = nodes_of(composed, PATIENCE, f"tracking.uri={shared_uri}", "tracking.study=alone")
    alone = [job.train(node) for node in nodes[:2]]
    other_store = Store(shared_uri, "alone")
    for one, other in zip(outcomes[:2], alone, strict=True):
        assert dict(one.metrics) == pytest.approx(dict(other.metrics), rel=1e-5, abs=1e-5)
        run, other_run = (
            s.client.get_run(o.run_id) for s, o in ((store, one), (other_store, other))
        )
        recorded, expected = histories(store, run), histories(other_store, other_run)
        assert recorded.keys() == expected.keys()
        for key in recorded.keys() - {"seconds"}:
            steps, values = zip(*recorded[key], strict=True)
            other_steps, other_values = zip(*expected[key], strict=True)
            assert steps == other_steps
            assert values == pytest.approx(other_values, rel=1e-5, abs=1e-5), key


def test_a_group_that_has_stopped_is_not_trained_again(
    composed: Compose, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the results are written, after the best weights were restored."""
    nodes, record = nodes_of(composed, PATIENCE, f"tracking.uri={uri}"), jobs._record

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "_record", stop)
    with pytest.raises(KeyboardInterrupt):
        jobs.train_at_once(nodes)
    monkeypatch.setattr(jobs, "_record", record)
    outcomes, trained = relaunch(nodes, monkeypatch)
    assert not trained
    store = Store(uri, "l2keras")
    for outcome, rows in zip(outcomes, (7, 4, 8), strict=True):
        run = store.client.get_run(outcome.run_id)
        losses = [loss for _, loss in histories(store, run)["val_data_loss"]]
        assert len(losses) == rows
        assert losses[-1] == min(losses) == outcome.metrics["val_data_loss"]
