"""The tuning command, end to end on a small scale: real optuna, real training, a real store."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2keras_experiments.commands import validation
from l2keras_experiments.config import paths
from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.data.datasets import Dataset, load_data
from l2keras_experiments.sweeps import job
from l2keras_experiments.sweeps.vectorized import trainer
from l2keras_experiments.tracking.store import Store
from l2keras_experiments.tuning import batches, launch, search, space
from tests.support import factorial
from tests.support.runs import Compose, runs_of
from tests.support.tuned import Tuned, left_behind, run_tune

pytestmark = pytest.mark.usefixtures("eager_steps")

# Least squares with as much noise as signal: with half_l2 it is ridge regression.
RATE, EPOCHS, TRIALS = 0.3, 15, 9
RIDGE = [
    "data=teacher_student", "data.num_features=8", "data.target_noise=2.0", "model=linear",
    "training.batch_size=40", f"training.epochs={EPOCHS}", f"optimizer.learning_rate={RATE}",
    "tune.lam=[1e-3,1000.0]", "tune.warmup_epochs=3", f"tune.num_trials={TRIALS}",
    "tune.preset=tuned_ridge", "tune.batch_size=1",
]  # fmt: skip
# A trial that takes half a second.
TINY = ["data=teacher_student", "model=linear", "training.epochs=2", "tune.batch_size=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """One store for all tests, each of which has a study of its own."""
    folder = tmp_path_factory.mktemp("tune")
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture(scope="module")
def ridge(composed: Compose, eager_steps: None, folder: Path) -> Tuned:
    return run_tune(composed, folder, *RIDGE, draws=True)


def closed_form_loss(data: Dataset, lam: float) -> float:
    """The validation loss of argmin mean((y - x w - b)^2) + lam/2 |w|^2, b free."""
    x, y = (part.astype(float) for part in (data.x_train, data.y_train))
    centred = x - x.mean(axis=0)
    gram = centred.T @ centred + len(x) * lam / 2 * np.eye(x.shape[1])
    w = np.linalg.solve(gram, centred.T @ y)
    predicted = (data.x_val - x.mean(axis=0)) @ w + y.mean()
    return float(np.mean((data.y_val - predicted) ** 2))


def test_it_finds_the_lambda_of_ridge_regression(composed: Compose, ridge: Tuned) -> None:
    """The best lambda is near the optimum in closed form, inside the range, far from the worst."""
    config = validation.typed(composed("tune", *RIDGE))
    data = load_data(config.data, config.seed, "float32")
    grid = np.geomspace(1e-3, 1000, 240)
    losses = [closed_form_loss(data, lam) for lam in grid]
    optimum, least = grid[int(np.argmin(losses))], min(losses)
    assert losses[0] > 1.2 * least < losses[-1]  # an interior optimum, worth a search
    best = search.best(ridge.trials)
    assert best is not None
    assert best.value == pytest.approx(least, rel=0.1)  # 15 steps are not quite the limit
    assert optimum / 4 < best.params[space.LAM] < optimum * 4
    complete = [trial.value for trial in ridge.trials if trial.state == "complete"]
    assert best.value < 0.8 * max(complete)


def test_divergence_is_a_failed_run_and_no_end(ridge: Tuned) -> None:
    """Where learning rate times lambda exceeds two the run is FAILED, and the study goes on."""
    assert len(ridge.trials) == TRIALS
    huge = [t for t in ridge.trials if RATE * t.params[space.LAM] > 2.5]
    assert any(trial.state == "diverged" for trial in huge)
    for trial in huge:
        assert trial.state in ("diverged", "pruned") or trial.value > 1e3
    for run, trial in zip(ridge.children, ridge.trials, strict=True):
        expected = "FAILED" if trial.state == "diverged" else "FINISHED"
        assert run.info.status == expected, trial


def test_pruned_trials_are_short_and_say_so(ridge: Tuned) -> None:
    """A pruned trial stops early, FINISHED, with the tag `pruned` and its lambda."""
    pruned = [trial for trial in ridge.trials if trial.state == "pruned"]
    assert pruned
    for trial in ridge.trials:
        run = ridge.children[trial.number]
        history = ridge.store.client.get_metric_history(run.info.run_id, "val_data_loss")
        assert (run.data.tags.get("pruned") == "true") is (trial.state == "pruned")
        if trial.state == "pruned":
            assert 4 <= trial.epochs == len(history) < EPOCHS
            lam = trial.params[space.LAM]
            assert float(run.data.params["lambda"]) == pytest.approx(lam, rel=1e-6)
            assert "traceback.txt" not in {
                f.path for f in ridge.store.client.list_artifacts(run.info.run_id)
            }
        elif trial.state == "complete":
            assert len(history) == EPOCHS
            assert history[-1].value == trial.value


def test_each_trial_is_a_child_with_the_config_of_train(ridge: Tuned) -> None:
    """Each child has its trial's number, lambda and the parameters of experiments.train alone."""
    for run, trial in zip(ridge.children, ridge.trials, strict=True):
        assert run.data.tags["trial"] == str(trial.number)
        assert float(run.data.params["regularization.lam"]) == trial.params[space.LAM]
        assert not [key for key in run.data.params if key.startswith("tune.")]
        assert run.data.tags["method"] == "HalfL2"


def test_the_parent_carries_best_table_figures_and_preset(ridge: Tuned) -> None:
    """The parent run has the best, its course over the trials, the table and the figures."""
    best = search.best(ridge.trials)
    assert best is not None
    assert ridge.parent.info.status == "FINISHED"
    metrics, tags = ridge.parent.data.metrics, ridge.parent.data.tags
    assert metrics["best.val_data_loss"] == best.value
    assert metrics["best.regularization.lam"] == best.params[space.LAM]
    assert tags["best.trial"] == str(best.number)
    assert float(tags["best.regularization.lam"]) == pytest.approx(best.params[space.LAM], 1e-5)
    course = ridge.store.client.get_metric_history(ridge.parent.info.run_id, "best.val_data_loss")
    values = [metric.value for metric in course]
    assert len(values) > 5
    assert values == sorted(values, reverse=True)
    names = {f.path for f in ridge.store.client.list_artifacts(ridge.parent.info.run_id)}
    assert {
        "tuning.json", "config.yaml", "tuned_ridge.yaml", "tuning_history.svg",
        "tuning_history.png", "tuning_over_lambda.svg", "tuning_over_lambda.png",
    } <= names  # fmt: skip
    table = json.loads(ridge.artifact("tuning.json").read_text())
    states = [row[table["columns"].index("state")] for row in table["data"]]
    assert states == [trial.state for trial in ridge.trials]


def test_the_test_metrics_stand_beside_what_selects(ridge: Tuned) -> None:
    """Each completed trial has those of its run; the best is the best on validation."""
    complete = [trial for trial in ridge.trials if trial.state == "complete"]
    for trial in complete:
        metrics = ridge.children[trial.number].data.metrics
        assert trial.test == {"test_data_loss": metrics["test_data_loss"]}
        assert trial.value == metrics["val_data_loss"] != metrics["test_data_loss"]
    assert not any(trial.test for trial in ridge.trials if trial.state == "pruned")
    best = min(complete, key=lambda trial: trial.value)
    loss = best.test["test_data_loss"]
    assert ridge.parent.data.metrics["best.test_data_loss"] == loss
    said = f"on the test examples, which selected nothing: test data loss {loss:.4g}\n"
    assert said in ridge.printed
    table = json.loads(ridge.artifact("tuning.json").read_text())
    column = table["columns"].index("test data loss")
    assert table["data"][best.number][column] == f"{loss:.5g}"


def test_the_terminal_shows_the_best_and_the_command(ridge: Tuned) -> None:
    """The command ends with the table, the best, the preset's path and how to train with it."""
    best = search.best(ridge.trials)
    assert best is not None
    assert f"best: trial {best.number} lam={best.params[space.LAM]:.4g}: " in ridge.printed
    assert str(ridge.folder / "experiment" / "tuned_ridge.yaml") in ridge.printed
    assert "train with it: python -m experiments.train experiment=tuned_ridge\n" in ridge.printed


def test_the_preset_gives_the_best_value_again(composed: Compose, ridge: Tuned) -> None:
    """experiments.train with the preset reaches the value that the study found, to the last bit."""
    path = f"hydra.searchpath=[file://{ridge.folder}]"
    store = [f"tracking.uri={ridge.store.uri}", "tracking.study=again", "tracking.log_model=false"]
    job.train(composed("config", path, "experiment=tuned_ridge", *store))
    [run] = runs_of(Store(ridge.store.uri, "again"))
    best = search.best(ridge.trials)
    assert best is not None
    assert run.data.metrics["val_data_loss"] == best.value


def test_the_same_command_on_a_finished_study(composed: Compose, ridge: Tuned) -> None:
    """Launched again nothing is trained and no second parent made; the preset is written anew."""
    preset = ridge.folder / "experiment" / "tuned_ridge.yaml"
    before = preset.read_text()
    preset.unlink()
    again = run_tune(composed, ridge.folder, *RIDGE)
    assert again.trials == ridge.trials
    assert again.parent.info.run_id == ridge.parent.info.run_id
    assert len(again.children) == len(ridge.children)
    assert preset.read_text() == before


def test_seeds_and_learning_rate(composed: Compose, folder: Path) -> None:
    """A trial of two seeds is two runs of one lambda and learning rate; its value is their mean."""
    tuned = run_tune(
        composed, folder, *TINY, "tune.num_trials=2", "tune.num_seeds=2", "seed=7",
        "tune.learning_rate=[0.05,0.5]", "regularization=decoupled", "tracking.study=seeds",
        draws=True,
    )  # fmt: skip
    assert [run.data.tags["trial"] for run in tuned.children] == ["0", "0", "1", "1"]
    assert [run.data.params["seed"] for run in tuned.children] == ["7", "8", "7", "8"]
    for trial in tuned.trials:
        runs = tuned.children[2 * trial.number : 2 * trial.number + 2]
        for key in (space.LAM, space.RATE):
            assert {float(run.data.params[key]) for run in runs} == {trial.params[key]}
        losses = [run.data.metrics["val_data_loss"] for run in runs]
        assert losses[0] != losses[1]
        assert trial.value == pytest.approx(sum(losses) / 2, rel=1e-12)
    assert 0.05 <= tuned.trials[0].params[space.RATE] <= 0.5
    names = {f.path for f in tuned.store.client.list_artifacts(tuned.parent.info.run_id)}
    assert "tuning_over_learning_rate.png" in names
    preset = folder / "experiment" / "tuned_teacher_student_linear_decoupled_sgd.yaml"
    assert "mean of 2 seeds" in preset.read_text()


def test_an_interrupted_study_goes_on(
    composed: Compose, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in mid trial leaves KILLED runs; the same command ends as if it had not come."""
    whole = run_tune(composed, folder, *TINY, "tune.num_trials=2", "tracking.study=whole")
    real = search.watch

    def interrupt(trial: Any, epoch: int, value: float, **options: Any) -> None:
        if (trial.number, epoch) == (1, 1):
            raise KeyboardInterrupt
        real(trial, epoch, value, **options)

    monkeypatch.setattr(search, "watch", interrupt)
    command = [*TINY, "tune.num_trials=2", "tracking.study=parts"]
    with pytest.raises(KeyboardInterrupt):
        run_tune(composed, folder, *command)
    node = composed("tune", f"tracking.uri=sqlite:///{folder / 'mlflow.db'}", *command)
    stopped = left_behind(node, folder)
    assert stopped.parent.info.status == "KILLED"
    assert [run.info.status for run in stopped.children] == ["FINISHED", "KILLED"]
    assert [trial.state for trial in stopped.trials] == ["complete", "killed"]

    monkeypatch.setattr(search, "watch", real)
    parts = run_tune(composed, folder, *command)
    assert parts.parent.info.run_id == stopped.parent.info.run_id
    assert parts.parent.info.status == "FINISHED"
    assert [run.info.status for run in parts.children].count("FINISHED") == 2
    settled = [(t.params, t.value) for t in parts.trials if t.state != "killed"]
    assert settled == [(t.params, t.value) for t in whole.trials]


def stacked(composed: Compose, folder: Path, study: str) -> Tuned:
    words = [word for word in RIDGE if not word.startswith(("tune.batch_size", "tracking.study"))]
    return run_tune(composed, folder, *words, "tune.batch_size=8", f"tracking.study={study}")


def test_batches_find_the_lambda_too(
    composed: Compose, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halves end after 3, 6 and 12 epochs; an interrupted search ends as one that was not."""
    whole = stacked(composed, folder, "batches")
    best = search.best(whole.trials)
    assert best is not None
    config = validation.typed(composed("tune", *RIDGE))
    data = load_data(config.data, config.seed, "float32")
    least = min(closed_form_loss(data, lam) for lam in np.geomspace(1e-3, 1000, 240))
    assert best.value == pytest.approx(least, rel=0.1)
    lengths = Counter(trial.epochs for trial in whole.trials if trial.state == "pruned")
    assert set(lengths) <= {3, 6, 12}
    assert lengths[3] >= 4
    for run, trial in zip(whole.children, whole.trials, strict=True):
        history = whole.store.client.get_metric_history(run.info.run_id, "val_data_loss")
        assert run.info.status == ("FAILED" if trial.state == "diverged" else "FINISHED"), trial
        assert (run.data.tags.get("pruned") == "true") is (trial.state == "pruned")
        assert ("test_data_loss" in run.data.metrics) is (trial.state == "complete")
        if trial.state in ("complete", "pruned"):
            assert history[-1].value == trial.value
            assert len(history) == trial.epochs

    real, batch = batches.BatchTrainer._train, []

    def interrupt(self: Any, *arguments: Any) -> None:
        batch.append(arguments)
        if len(batch) == 2:
            raise KeyboardInterrupt
        real(self, *arguments)

    monkeypatch.setattr(batches.BatchTrainer, "_train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stacked(composed, folder, "batches again")
    monkeypatch.setattr(batches.BatchTrainer, "_train", real)
    again = stacked(composed, folder, "batches again")
    settled = [(t.params, t.value, t.state) for t in again.trials if t.state != "killed"]
    assert settled == [(t.params, t.value, t.state) for t in whole.trials]


@pytest.mark.parametrize("batch_size", [1, 2], ids=["one by one", "at once"])
def test_a_trial_that_stops_early_counts_with_its_best(
    composed: Compose, folder: Path, batch_size: int
) -> None:
    """Patience 2 ends each trial after its third or fourth epoch; no epoch is reported twice."""
    tuned = run_tune(
        composed, folder, "data=teacher_student", "data.num_train=90", "data.num_features=8",
        "data.target_noise=2.0", "model=linear", "training.batch_size=45", "training.epochs=8",
        "optimizer.learning_rate=0.1", "training.early_stopping.patience=2", "tune.lam=[2.0,4.0]",
        "tune.warmup_epochs=4", "tune.num_trials=2", f"tune.batch_size={batch_size}",
        f"tracking.study=early{batch_size}",
    )  # fmt: skip
    for run, trial in zip(tuned.children, tuned.trials, strict=True):
        history = tuned.store.client.get_metric_history(run.info.run_id, "val_data_loss")
        values = [metric.value for metric in sorted(history, key=lambda metric: metric.step)]
        assert trial.state == "complete"
        assert trial.epochs == len(values) - 1 in (3, 4)
        assert trial.value == values[-1] == min(values) == values[-4]
        assert trial.test == {"test_data_loss": run.data.metrics["test_data_loss"]}


@pytest.mark.parametrize(
    ("size", "pruned", "note"),
    factorial.sample([(2, 2, ""), (1, 0, "one by one: ValueError: of 1 MB each")], 1),
)
def test_a_batch_is_trained_in_stacks_that_fit(
    composed: Compose,
    folder: Path,
    size: int,
    pruned: int,
    note: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of each two trials one ends after its first epoch; where one fits there is no stack."""
    monkeypatch.setattr(trainer, "group_size", lambda *_: (size, "of 1 MB each"))
    words = [word for word in TINY if not word.startswith("tune.batch_size")]
    tuned = run_tune(
        composed, folder, *words, "tune.batch_size=4", "tune.num_trials=4", "tune.warmup_epochs=1",
        f"tracking.study=stacks{size}",
    )  # fmt: skip
    states = [(trial.state, trial.epochs) for trial in tuned.trials]
    assert states.count(("pruned", 1)) == pruned
    assert states.count(("complete", 2)) == 4 - pruned
    if pruned:
        for pair in (states[:2], states[2:]):
            assert sorted(pair) == [("complete", 2), ("pruned", 1)]
    assert note in capsys.readouterr().err


def test_no_trial_completed(composed: Compose, folder: Path) -> None:
    """Where every trial diverges the command says so in one line, and the parent is FAILED."""
    command = ["data=teacher_student", "model=linear", "optimizer.learning_rate=1e20",
               "training.epochs=3", "tune.num_trials=2", "tune.preset=tuned_none",
               "tune.batch_size=1", "tracking.study=diverging"]  # fmt: skip
    with pytest.raises(ConfigError, match=r"no best one\. Received: 2 diverged\. Choose a smaller"):
        run_tune(composed, folder, *command)
    node = composed("tune", f"tracking.uri=sqlite:///{folder / 'mlflow.db'}", *command)
    tuned = left_behind(node, folder)
    assert tuned.parent.info.status == "FAILED"
    assert [run.info.status for run in tuned.children] == ["FAILED", "FAILED"]
    assert not (folder / "experiment" / "tuned_none.yaml").exists()


def test_time_is_over(composed: Compose, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After tune.timeout no further trial starts; what there is makes the preset."""
    command = [*TINY, "tune.num_trials=50", "tune.timeout=0.01", "tracking.study=short"]
    tuned = run_tune(composed, folder, *command)
    assert len(tuned.trials) == 1
    assert "tune.timeout=0.01 s is over" in capsys.readouterr().err
    assert (folder / "experiment" / "tuned_teacher_student_linear_half_l2_sgd.yaml").exists()


@pytest.mark.parametrize(
    ("value", "end"), [(1e-3, "lower"), (1.02e-3, "lower"), (0.1, ""), (98.0, "upper")]
)
def test_the_edge_of_the_range(value: float, end: str) -> None:
    """A best value at an end of its range is told; one in the middle is not."""
    assert launch.edge(value, [1e-3, 100.0]) == end


def test_the_study_lies_beside_the_store(composed: Compose, tmp_path: Path) -> None:
    """Without tune.storage the study is beside a sqlite store, and in runs/ for a server."""
    beside = validation.typed(composed("tune", f"tracking.uri=sqlite:///{tmp_path / 'a.db'}"))
    assert launch.storage_url(beside) == f"sqlite:///{tmp_path / 'optuna.db'}"
    server = validation.typed(composed("tune", "tracking.uri='http://localhost:5000'"))
    assert launch.storage_url(server) == f"sqlite:///{paths.RUNS / 'optuna.db'}"
    own = validation.typed(composed("tune", "tune.storage='postgresql://host/db'"))
    assert launch.storage_url(own) == "postgresql://host/db"


@pytest.mark.parametrize("size", factorial.sample([2, 1], 1))
def test_it_searches_for_what_selects(composed: Compose, folder: Path, size: int) -> None:
    """The highest R2 wins, alone and in a batch; table, preset and parent name it."""
    tuned = run_tune(
        composed, folder, *TINY, f"tracking.study=r2-{size}", "tune.num_trials=2",
        f"tune.batch_size={size}", "tune.lam=[1e-3,1000.0]", "tune.pruning=false",
        "training.metrics=[R2Score]", "training.selection=val_R2Score", "tune.preset=tuned_r2",
    )  # fmt: skip
    best = search.best(tuned.trials)
    assert best is not None
    values = [trial.value for trial in tuned.trials]
    assert best.value == max(values) > min(values)
    assert tuned.parent.data.metrics["best.val_R2Score"] == pytest.approx(best.value)
    assert f"best: {launch.line(best)}" in tuned.printed
    assert f"val_R2Score={best.value:.4g}" in tuned.printed
    assert f"# val_R2Score {best.value:.6g}" in tuned.artifact("tuned_r2.yaml").read_text()
    child = tuned.children[0].data
    assert child.params["selection_mode"] == "max"
    assert float(child.tags["val_R2Score"]) == pytest.approx(values[0], rel=1e-3)
