"""Mistakes that only the data or the model shows, before anything is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest

from l2keras_experiments.commands import validation
from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.config.targets import TargetError
from l2keras_experiments.reports.comparison.launch import compare
from l2keras_experiments.sweeps import job, rehearsal
from l2keras_experiments.sweeps.sweep import Job, Sweep
from l2keras_experiments.tracking.store import Store
from l2keras_experiments.tuning.launch import tune
from tests.support.runs import SMALL, Compose, runs_of
from tests.support.tuned import presets_in

BROKEN = {"_target_": f"{__name__}.broken"}
ANSWER = r"must have the shape \(10,\)"


def broken(num_outputs: int) -> keras.Model:
    """A model with an output too many."""
    return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(num_outputs + 1)])


def wrong() -> keras.Model:
    raise ValueError("of ours")


def too_large() -> keras.Model:
    raise MemoryError


def with_model(composed: Compose, model: dict[str, str], *words: str) -> Any:
    node = composed("config", *(word for word in SMALL if not word.startswith("model.")), *words)
    node.model = model
    return node


def test_a_run_alone_leaves_nothing(composed: Compose, uri: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=ANSWER):
        job.train(with_model(composed, BROKEN, f"tracking.uri={uri}"))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_sweep_records_no_run(composed: Compose, uri: str) -> None:
    """Also where the first jobs could run."""
    nodes = [composed("config", *SMALL), with_model(composed, BROKEN)]
    for node in nodes:
        node.tracking.uri = uri
    jobs = [Job((), str(i), validation.typed(node), node) for i, node in enumerate(nodes)]

    def launch(todo: Any, parent: str) -> Any:
        pytest.fail("launched")

    def check(todo: Any) -> None:
        rehearsal.check([job.config for job in todo])

    with pytest.raises(ConfigError, match=ANSWER):
        Sweep(jobs, "sweep", launch, watch=False, check=check).run()
    assert runs_of(Store(uri, "l2keras")) == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("corrected", True, "corrected"),
        ("scale", {"haed/*": 0.1, "*": 1.0}, r"regularization\.scale"),
        ("groups", [{"include": "*output*"}, {"include": "*kernel"}], "output"),
    ],
)
def test_what_only_decay_finds_is_a_mistake_too(
    composed: Compose, key: str, value: Any, message: str
) -> None:
    """A form that no layer has, a pattern that matches nothing, groups that overlap."""
    node = composed("config", *SMALL, "regularization=decoupled")
    node.regularization[key] = value
    with pytest.raises(ConfigError, match=message):
        rehearsal.check([validation.typed(node)])


def test_a_target_that_raises_is_a_mistake(composed: Compose) -> None:
    """Unless it lacks memory: that may be otherwise in the run."""
    for name, error in (("wrong", ValueError), ("too_large", None)):
        config = validation.typed(with_model(composed, {"_target_": f"{__name__}.{name}"}))
        if error is None:
            rehearsal.check([config])
        else:
            with pytest.raises(TargetError, match="wrong raised ValueError: of ours"):
                rehearsal.check([config])


def test_one_run_of_each_kind_is_looked_at(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda, rate and seed are no kinds; a model is."""
    points = [["seed=0"], ["seed=1"], ["regularization.lam=1"], ["optimizer.learning_rate=1"]]
    points += [["optimizer=adam"], ["regularization=decoupled"], ["data=digits", "model=cnn"]]
    configs = [validation.typed(composed("config", *point)) for point in points]
    seen: list[Any] = []
    monkeypatch.setattr(rehearsal, "rehearsed", lambda config, known: seen.append(config))
    rehearsal.check(configs)
    assert seen == [configs[i] for i in (0, 4, 5, 6)]


def test_arguments_make_kinds_of_runs(composed: Compose) -> None:
    """A callback that raises, weights of too few classes: in the second of two runs."""
    nodes = [composed("config", *SMALL) for _ in range(3)]
    nodes[1].training.callbacks = [{"_target_": f"{__name__}.wrong"}]
    nodes[2].training.class_weight = {0: 1.0}
    for node, message in ((nodes[1], "of ours"), (nodes[2], "one weight for each class")):
        with pytest.raises((ConfigError, TargetError), match=message):
            rehearsal.check([validation.typed(nodes[0]), validation.typed(node)])


def test_what_is_no_mistake_of_the_config_is_left_to_the_runs(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory, say: another run of the sweep may have enough."""

    def fail(config: Any, known: Any) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(rehearsal, "rehearsed", fail)
    rehearsal.check([validation.typed(composed("config"))])


@pytest.mark.parametrize("command", ["compare", "tune"])
def test_a_comparison_and_a_search_record_no_run(
    composed: Compose, uri: str, tmp_path: Path, command: str
) -> None:
    node = composed(command, "data.num_train=100", "training.epochs=2", f"tracking.uri={uri}")
    node.model = BROKEN
    run = {"compare": compare, "tune": tune}[command]
    with presets_in(tmp_path), pytest.raises(ConfigError, match=ANSWER):
        run(node)
    assert runs_of(Store(uri, "l2keras")) == []
