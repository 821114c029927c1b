"""The study itself: what it proposes, prunes, survives and resumes. Real optuna on sqlite."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from l2keras_experiments.commands import validation
from l2keras_experiments.config.schema import ConfigError, TuneConfig
from l2keras_experiments.tuning import search, space
from l2keras_experiments.tuning.search import Tried
from l2keras_experiments.tuning.space import LAM, RATE, rounded
from tests.support.runs import Compose

Objective = Callable[[optuna.trial.Trial], float]


@pytest.fixture
def config(composed: Compose) -> TuneConfig:
    resolved: TuneConfig = validation.typed(
        composed("tune", "tune.lam=[1e-4,1.0]", "tune.learning_rate=[0.01,1.0]")
    )
    return resolved


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'optuna.db'}"


def bowl(trial: optuna.trial.Trial) -> float:
    """Lowest at lambda = 0.01, learning rate = 0.1."""
    lam, rate = (math.log10(trial.params[key]) for key in (LAM, RATE))
    return (lam + 2) ** 2 + (rate + 1) ** 2


def launch(
    url: str, config: TuneConfig, num: int, objective: Objective = bowl, name: str = "study"
) -> list[Tried]:
    """What one process does: opens, recovers, tries until `num` are done."""
    study = search.open_study(url, name, config)
    search.recover(study)
    for _ in range(num - search.num_done(search.tried(study))):
        search.attempt(study, search.ask(study, config), objective)
    return search.tried(study)


def settled(trials: list[Tried]) -> list[tuple[dict[str, float], float]]:
    return [(trial.params, trial.value) for trial in trials if trial.state != "killed"]


def test_it_finds_the_bottom(url: str, config: TuneConfig) -> None:
    """The search draws within the ranges and gets closer than its random start."""
    trials = launch(url, config, 30)
    for trial in trials:
        assert 1e-4 <= trial.params[LAM] <= 1.0
        assert 0.01 <= trial.params[RATE] <= 1.0
    best = search.best(trials)
    assert best is not None
    assert best.value < 0.05  # within a factor of 1.7 of either optimum
    assert best.value < min(trial.value for trial in trials[:10])


def test_a_fixed_learning_rate_is_not_drawn(url: str, composed: Compose) -> None:
    """Without a range of learning rates lambda is the only thing searched."""
    config = validation.typed(composed("tune"))
    study = search.open_study(url, "study", config)
    assert list(search.ask(study, config).params) == [LAM]


def test_a_resumed_study_is_the_uninterrupted_one(url: str, config: TuneConfig) -> None:
    """Stopped twice, once in mid trial, a study ends with the trials of one never stopped."""
    whole = launch(url, config, 16, name="whole")

    def interrupted(trial: optuna.trial.Trial) -> float:
        if trial.number == 11:
            raise KeyboardInterrupt
        return bowl(trial)

    launch(url, config, 4)
    with pytest.raises(KeyboardInterrupt):
        launch(url, config, 16, interrupted)
    parts = launch(url, config, 16)
    assert [trial.number for trial in parts if trial.state == "killed"] == [11]
    assert settled(parts) == settled(whole)
    assert len({trial.params[LAM] for trial in whole}) == 16


def test_a_trial_of_a_dead_process_is_tried_again(url: str, config: TuneConfig) -> None:
    """A trial that SIGKILL left running is marked killed, and its values come up once more."""
    study = search.open_study(url, "study", config)
    dead = search.ask(study, config)
    for _ in range(2):  # killed again before the first trial of the next launch
        again = search.open_study(url, "study", config)
        search.recover(again)
    trials = launch(url, config, 3)
    assert [trial.state for trial in trials] == ["killed", *["complete"] * 3]
    assert trials[1].params == rounded(dead.params)
    assert trials[2].params != rounded(dead.params)


def test_a_finished_study_stays_as_it_is(url: str, config: TuneConfig) -> None:
    """Launched again with nothing left, no trial is added."""
    assert launch(url, config, 3) == launch(url, config, 3)


def test_divergence_and_errors_do_not_end_it(url: str, config: TuneConfig) -> None:
    """A nan or an exception ends its trial only; neither wins, and the error is kept."""

    def rough(trial: optuna.trial.Trial) -> float:
        if trial.number == 0:
            search.watch(trial, 0, math.nan)
        if trial.number == 1:
            raise MemoryError("no room\nfor more")
        return math.nan if trial.number == 2 else bowl(trial)

    trials = launch(url, config, 5, rough)
    assert [t.state for t in trials] == ["diverged", "failed", "diverged", "complete", "complete"]
    assert trials[0].value == trials[2].value == math.inf
    assert trials[1].error == "MemoryError: no room"
    best = search.best(trials)
    assert best is not None
    assert best.number in (3, 4)
    assert search.num_done(trials) == 4  # what failed is tried again by the next launch


def test_a_trial_worse_than_the_median_is_pruned(url: str, composed: Compose) -> None:
    """After five complete trials a worse one ends right after the warm-up, a better one goes on."""
    config = validation.typed(composed("tune", "tune.warmup_epochs=2"))

    def flat(trial: optuna.trial.Trial) -> float:
        value = {5: 7.0, 6: 1.0}.get(trial.number, 4.0)
        for epoch in range(6):
            search.watch(trial, epoch, value)
        return value

    trials = launch(url, config, 7, flat)
    assert [trial.state for trial in trials] == [*["complete"] * 5, "pruned", "complete"]
    assert [trial.epochs for trial in trials] == [6, 6, 6, 6, 6, 3, 6]
    assert trials[5].value == 7.0
    off = validation.typed(composed("tune", "tune.pruning=false"))
    assert {t.state for t in launch(url, off, 7, flat, name="off")} == {"complete"}


def test_one_process_at_a_time(url: str) -> None:
    """A second launch of a study at work is refused; another study is not."""
    with search.locked(url, "study"):
        with (
            pytest.raises(ConfigError, match="Another process is tuning study study"),
            search.locked(url, "study"),
        ):
            pass
        with search.locked(url, "other"):
            pass
    with search.locked(url, "study"):
        pass


def test_a_search_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    """A folder that was not there before is gone; one that has files stays."""
    url = f"sqlite:///{tmp_path / 'new' / 'optuna.db'}"

    def begin(kept: bool) -> None:
        with search.locked(url, "study"):
            assert (tmp_path / "new" / "state").is_dir()
            if kept:
                (tmp_path / "new" / "optuna.db").touch()
            raise ConfigError("no")

    for kept in (False, True):
        with pytest.raises(ConfigError):
            begin(kept)
        assert [path.name for path in tmp_path.rglob("*")] == (["new", "optuna.db"] if kept else [])


@pytest.mark.parametrize("broken", ["nosuch://host/db", "sqlite:////proc/none/optuna.db"])
def test_a_database_that_does_not_open(config: TuneConfig, broken: str, tmp_path: Path) -> None:
    """A database that optuna cannot open is refused in one line."""
    with pytest.raises(ConfigError, match=r"`tune\.storage` must be.*Received: \w+: ") as caught:
        search.open_study(broken, "study", config)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made() -> None:
    """A database where nothing can be written is refused in one line."""
    with (
        pytest.raises(ConfigError, match=r"may write\. Received: .*/proc/none"),
        search.locked("sqlite:////proc/none/optuna.db", "study"),
    ):
        pass


def test_a_metric_that_is_to_grow_is_maximized(url: str, config: TuneConfig) -> None:
    """Of 0.1, 0.3, nan and 0.2 the best is 0.3; what diverged is worse than any, also later on."""
    accuracy = space.Objective("val_accuracy", higher_is_better=True)
    study = search.open_study(url, "study", config, accuracy)
    values = iter([0.1, 0.3, math.nan, 0.2])
    for _ in range(4):
        search.attempt(study, search.ask(study, config), lambda trial: next(values))
    trials = search.tried(search.open_study(url, "study", config, accuracy))
    assert [trial.value for trial in trials] == [0.1, 0.3, -math.inf, 0.2]
    assert [trial.state for trial in trials] == ["complete", "complete", "diverged", "complete"]
    best = search.best(trials)
    assert best is not None
    assert (best.value, best.objective) == (0.3, accuracy)
