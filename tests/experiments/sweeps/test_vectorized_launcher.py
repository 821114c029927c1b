"""Which jobs are trained at once."""

from __future__ import annotations

from typing import Any

import pytest

from l2keras import audit
from l2keras._sweep.group import Group
from l2keras_experiments.commands import validation
from l2keras_experiments.config import flattening
from l2keras_experiments.config.schema import Config
from l2keras_experiments.sweeps.vectorized import trainer
from l2keras_experiments.training.trial import compiled_model
from tests.support.groups import SMALL, TINY
from tests.support.runs import Compose, mistake


@pytest.mark.parametrize(
    "override",
    ["optimizer.clipnorm=1.0", "optimizer.global_clipnorm=1.0", "training.jit=true",
     "training.mixed_precision=float16", "regularization=builtin_l2",
     "regularization=optimizer_weight_decay", "regularization.own_l2=keep",
     "optimizer._target_=tests.support.optimizers.halved",
     "regularization.groups=[{include:output,name:coupled}]"],
)  # fmt: skip
def test_what_cannot_be_stacked_is_trained_alone(composed: Compose, override: str) -> None:
    """A norm over weights, XLA, loss scaling, Keras' own decay, an own optimizer, groups."""
    plain, other = composed("config", *SMALL), composed("config", *SMALL, override)
    assert trainer.group_key(validation.typed(plain), flattening.flatten(plain)) is not None
    assert trainer.group_key(validation.typed(other), flattening.flatten(other)) is None
    reason = trainer.reason_alone(validation.typed(other))
    assert reason is not None
    assert override.partition("=")[0].removesuffix("._target_") in reason


def test_an_optimizer_without_a_stacked_form_is_named(composed: Compose) -> None:
    """Before anything compiles, and not by an error of the graph."""
    config = validation.typed(composed("config", *TINY, "optimizer=muon"))
    with pytest.raises(ValueError, match=r"elementwise optimizer.*Received: optimizer=Muon"):
        trainer.GroupTrainer([config, config])


def test_runs_that_differ_in_more_are_kept_apart(composed: Compose) -> None:
    """lambda, seed, learning rate and method may differ; width and what is decayed may not.

    Each has a hash of its own that its sweep has planned.
    """
    nodes = [composed("config", *SMALL, *point) for point in (
        ["seed=1"], ["optimizer.learning_rate=0.3", "regularization=coupled"], ["model.width=9"],
        ["regularization=coupled", "regularization.decay_all=true"],
    )]  # fmt: skip
    for number, node in enumerate(nodes):
        node.tracking.planned = str(number)
    keys = [trainer.group_key(validation.typed(node), flattening.flatten(node)) for node in nodes]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_runs_of_one_learning_rate_share_a_schedule(composed: Compose) -> None:
    """So that the step has each schedule in it once, however many runs there are."""
    nodes = [composed("config", *SMALL, f"seed={seed}", f"optimizer.learning_rate={rate}")
             for seed in (0, 1) for rate in (0.1, 0.2)]  # fmt: skip
    stacked_runs = trainer.GroupTrainer([validation.typed(node) for node in nodes]).runs
    schedules = [stacked.trained.member.learning_rate for stacked in stacked_runs]
    assert schedules[0] is schedules[2]
    assert schedules[1] is schedules[3]
    assert schedules[0] is not schedules[1]


def test_other_runs_train_with_what_is_compiled(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer runs of the same kind compile nothing, and end as in a new stack."""
    made, init = [], Group.__init__

    def noted(self: Group, *args: Any, **options: Any) -> None:
        made.append(self)
        init(self, *args, **options)

    monkeypatch.setattr(Group, "__init__", noted)

    def configs(method: str, *lams: float) -> list[Config]:
        words = [*TINY, f"regularization={method}"]
        nodes = [composed("config", *words, f"regularization.lam={lam}") for lam in lams]
        return [validation.typed(node) for node in nodes]

    def train(grouped: trainer.GroupTrainer) -> list[list[float]]:
        grouped.fit(range(len(grouped.runs)), lambda *_: None)
        return [stacked.history["val_loss"] for stacked in grouped.runs]

    reused = trainer.GroupTrainer(configs("half_l2", 0.1, 0.2, 0.3))
    train(reused)
    reused.replace_runs(configs("half_l2", 0.4, 0.5))
    losses = train(reused)
    assert len(made) == 1
    assert losses == [
        pytest.approx(own, rel=1e-6)
        for own in train(trainer.GroupTrainer(configs("half_l2", 0.4, 0.5)))
    ]
    made.clear()
    reused.replace_runs(configs("decoupled", 0.4, 0.5))
    assert train(reused) != losses
    assert len(made) == 1


@pytest.mark.parametrize("method", ["half_l2", "decoupled"])
def test_the_audit_of_a_run_is_that_of_its_own_model(composed: Compose, method: str) -> None:
    """Runs share an audited model; each report has the lambda of its run."""
    words = [*TINY, f"regularization={method}"]
    nodes = [composed("config", *words, f"regularization.lam={lam}") for lam in (0.1, 0.4)]
    grouped = trainer.GroupTrainer([validation.typed(node) for node in nodes])
    for stacked, lam in zip(grouped.runs, (0.1, 0.4), strict=True):
        report = grouped.audit(stacked)
        assert [row.lam for row in report.rows if row.lam] == [pytest.approx(lam)]
        data, own = grouped.data(stacked), stacked.method
        model = compiled_model(stacked.config, data, own, num_steps=100)
        assert report == audit(model, own.callbacks)
    assert grouped.audit(grouped.runs[0]).rows != grouped.audit(grouped.runs[1]).rows


def test_a_mistake_is_answered_at_once() -> None:
    """A key of the launcher that does not exist is told in one line, before TensorFlow loads."""
    assert "n_jobs" in mistake("experiments.train", "-m", "hydra/launcher=vectorized",
                               "n_jobs=2", "seed=0,1")  # fmt: skip
