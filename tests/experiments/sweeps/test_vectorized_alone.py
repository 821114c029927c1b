"""Jobs trained at once: each is the run that it would be alone, to rounding."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2keras._sweep import memory, stacking
from l2keras._sweep.group import Group
from l2keras_experiments.sweeps import job
from l2keras_experiments.sweeps.vectorized import jobs
from l2keras_experiments.tracking.store import Store
from tests.support import factorial
from tests.support.groups import SMALL, histories, trials
from tests.support.runs import Compose, logged_model

pytestmark = pytest.mark.usefixtures("eager_steps", "programs_once")

# What differs, though the run is the same: where it is recorded, and how long it took.
ELSEWHERE = ("tracking.",)
METHODS = ["none", "half_l2", "coupled", "decoupled", "independent"]


@pytest.fixture(scope="module")
def points() -> list[list[str]]:
    """Every method, two seeds, two learning rates."""
    return [
        [f"regularization={method}", f"seed={seed}", f"optimizer.learning_rate={rate}"]
        for method, seed, rate in zip(
            [*METHODS, "half_l2"], [0, 1, 0, 1, 0, 1], [0.2, 0.2, 0.05] * 2, strict=True
        )
    ]


def artifacts(store: Store, run: Any) -> set[str]:
    return {found.path for found in store.client.list_artifacts(run.info.run_id)}


@pytest.mark.parametrize(
    ("optimizer", "bytes_that_pay", "number"),
    factorial.sample(
        [
            pytest.param(["optimizer=momentum"], stacking.BYTES_THAT_PAY, 6, id="momentum"),
            pytest.param(["optimizer=adam"], 0.0, 5, id="adam by XLA, in two unequal stacks"),
        ],
        1,
    ),
)
def test_each_is_the_run_that_it_is_alone(
    composed: Compose,
    uri: str,
    points: list[list[str]],
    optimizer: list[str],
    bytes_that_pay: float,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same metrics in every epoch to 1e-5, the same parameters and tags."""
    monkeypatch.setattr(stacking, "BYTES_THAT_PAY", bytes_that_pay)
    monkeypatch.setattr(memory, "cores", lambda: 2)
    points = points[:number]
    sizes, load = set(), Group.load

    def noted(self: Group, *args: Any) -> None:
        sizes.add(self.size)
        load(self, *args)

    monkeypatch.setattr(Group, "load", noted)
    small = [
        *optimizer,
        *SMALL,
        "training.batch_size=30",
        "training.epochs=2",
        f"tracking.uri={uri}",
    ]
    nodes = {
        study: [
            composed("config", *small, *point, f"tracking.study={study}")
            for point in points
        ]
        for study in ("alone", "at_once")
    }  # fmt: skip
    for node in nodes["alone"]:
        job.train(node)
    outcomes = jobs.train_at_once(nodes["at_once"])
    assert [outcome.status for outcome in outcomes if outcome] == ["FINISHED"] * len(points)
    assert sizes == {6}
    alone_store, store = Store(uri, "alone"), Store(uri, "at_once")
    alone, at_once = trials(alone_store), trials(store)
    assert alone.keys() == at_once.keys()
    for name, run in at_once.items():
        other = alone[name]
        compare_metrics(histories(store, run), histories(alone_store, other))
        params = [
            {k: v for k, v in one.data.params.items() if not k.startswith(ELSEWHERE)}
            for one in (run, other)
        ]
        assert params[0] == params[1]
        assert run.data.tags["decay_digest"] == other.data.tags["decay_digest"]
        assert run.data.tags["config_hash"] == other.data.tags["config_hash"]
        new = run.data.tags.keys() - other.data.tags.keys()
        assert new == {"vectorized", "vectorized_group", "vectorized_size"}


def compare_metrics(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    for key in found.keys() - {"seconds"}:
        steps, values = zip(*found[key], strict=True)
        expected_steps, expected_values = zip(*expected[key], strict=True)
        assert steps == expected_steps
        np.testing.assert_allclose(values, expected_values, rtol=2e-5, atol=1e-5, err_msg=key)


def test_the_model_that_is_kept_is_the_one_alone(composed: Compose, uri: str) -> None:
    """The artifacts are the same; model.keras has weights, regularizers and optimizer state."""
    import keras

    same = [*SMALL, "optimizer=adam", "regularization=half_l2", f"tracking.uri={uri}"]
    same.append("tracking.log_model=true")
    loaded, files = {}, {}
    for study in ("alone", "at_once"):
        nodes = [composed("config", *same, f"seed={s}", f"tracking.study={study}") for s in (0, 1)]
        if study == "alone":
            job.train(nodes[1])
        else:
            jobs.train_at_once(nodes)
        store = Store(uri, study)
        run = trials(store)["HalfL2 lam=0.3 eta=0.001 seed=1"]
        files[study] = artifacts(store, run)
        loaded[study] = keras.models.load_model(logged_model(store, run) / "data" / "model.keras")
    assert files["alone"] == files["at_once"]
    for a, b in zip(loaded["alone"].variables, loaded["at_once"].variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)
    optimizers = [model.optimizer.variables for model in loaded.values()]
    for a, b in zip(*optimizers, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)
    assert loaded["at_once"].layers[2].kernel_regularizer.lam == 0.3


def test_the_learning_rate_under_accumulation_is_the_one_alone(
    composed: Compose, group: list[str], uri: str
) -> None:
    """That of the last update, where an epoch of 4 batches ends between two updates of 3."""
    cosine = [0.1 * (1 + math.cos(math.pi * step / 12)) for step in (2, 5, 11)]
    for study in ("alone", "at_once"):
        nodes = [
            composed("config", *group, "training.batch_size=20",
                     "training.gradient_accumulation_steps=3", f"seed={seed}",
                     f"tracking.uri={uri}", f"tracking.study={study}")
            for seed in (0, 1)
        ]  # fmt: skip
        if study == "alone":
            job.train(nodes[0])
        else:
            jobs.train_at_once(nodes)
        store = Store(uri, study)
        found = trials(store)["HalfL2 lam=0.3 eta=0.2 seed=0"]
        rates = [rate for _, rate in histories(store, found)["learning_rate"]]
        assert rates == pytest.approx(cosine, rel=1e-5)


def test_a_model_and_a_table_of_ones_own_at_once(
    composed: Compose, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are stacked as the built-in ones; validation and test are those of the run alone.

    The model has no variables before it is called.
    """
    (tmp_path / "own_at_once.py").write_text(
        "import keras\n"
        "def build(num_outputs, units=4):\n"
        "    hidden = keras.layers.Dense(units, 'tanh')\n"
        "    head = keras.layers.Dense(num_outputs)\n"
        "    return keras.Sequential([hidden, head])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    x = np.random.default_rng(0).normal(size=(120, 3))
    lines = [f"{a:.4f},{b:.4f},{c:.4f},{'ny'[int(a > b * c)]}" for a, b, c in x]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,c,label", *lines]) + "\n")
    own = ["model=mlp", "data=csv", f"data.path={tmp_path / 'table.csv'}", "data.target=label"]
    same = ["training.epochs=2", "tracking.log_model=false", "regularization.lam=0.3"]
    nodes = {}
    for study in ("alone", "at_once"):
        nodes[study] = [
            composed("config", *own, *same, f"seed={seed}", f"tracking.uri={uri}",
                     f"tracking.study={study}")
            for seed in (0, 1)
        ]  # fmt: skip
        for node in nodes[study]:
            node.model = {"_target_": "own_at_once.build", "units": 5}
    expected = job.train(nodes["alone"][1])
    outcomes = jobs.train_at_once(nodes["at_once"])
    assert [outcome and outcome.status for outcome in outcomes] == ["FINISHED"] * 2
    assert outcomes[1] is not None
    for key in ("val_accuracy", "val_data_loss", "test_accuracy", "test_data_loss"):
        assert outcomes[1].metrics[key] == pytest.approx(expected.metrics[key], rel=1e-5), key
    for found in trials(Store(uri, "at_once")).values():
        assert found.data.tags["vectorized_size"] == "2"
        assert found.data.params["model.units"] == "5"
        assert found.data.params["model.name"] == "own_at_once.build"
