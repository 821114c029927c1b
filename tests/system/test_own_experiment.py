"""A model and a table of one's own, from another folder: examples/own_experiment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from l2keras_experiments.config import paths
from l2keras_experiments.tracking.store import Store
from tests.support.runs import runs_of

EXAMPLE = paths.PROJECT / "examples" / "own_experiment"
LAUNCHERS = ("basic", "isolated", "vectorized")
SWEEP = ["experiment=lambdas", "regularization.lam=0.01,0.1", "seed=0,1",
         "training.epochs=30", "tracking.log_model=false"]  # fmt: skip


def run(
    module: str, folder: Path, *words: str, conf: Path = EXAMPLE / "conf"
) -> subprocess.CompletedProcess[str]:
    """Runs a command in `folder`, with the example's config folder and a store there."""
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{module}", "--config-dir", str(conf), *words,
         f"tracking.uri=sqlite:///{folder / 'store' / 'mlflow.db'}",
         f"hydra.run.dir={folder / 'hydra'}", f"hydra.sweep.dir={folder / 'sweep'}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(paths.PROJECT)},
        capture_output=True,
        text=True,
        timeout=500,
    )  # fmt: skip


@pytest.fixture(scope="module")
def values() -> dict[str, list[float]]:
    """By launcher the validation accuracies, to be compared."""
    return {}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_over_lambda_with_each_launcher(
    launcher: str, tmp_path: Path, values: dict[str, list[float]]
) -> None:
    """Two lambdas, two seeds: every run has its validation and its test metrics, and a page."""
    result = run("train", tmp_path, *SWEEP, f"hydra/launcher={launcher}")
    assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-3000:]
    store = Store(f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}", "own_experiment")
    found = [one for one in runs_of(store) if one.data.tags["kind"] == "trial"]
    assert [one.info.status for one in found] == ["FINISHED"] * 4
    for one in found:
        assert one.data.params["model.name"] == "mine.classifier"
        assert one.data.params["data.name"] == "wine"
        for part in ("val", "test"):
            assert one.data.metrics[f"{part}_accuracy"] > 0.5
            assert one.data.metrics[f"{part}_data_loss"] > 0
        history = store.client.get_metric_history(one.info.run_id, "test_accuracy")
        assert len(history) == 1  # measured once
        assert ("vectorized" in one.data.tags) is (launcher == "vectorized")
    [page] = (tmp_path / "store" / "report" / "own_experiment").glob("*/report.html")
    html = page.read_text(encoding="utf-8")
    assert "HalfL2 has the highest mean validation accuracy" in html
    assert "Test accuracy at each method&#39;s selected lambda: HalfL2" in html
    assert "test value of the selected ones is therefore an unbiased" in " ".join(html.split())
    order = sorted(found, key=lambda one: (one.data.params["lambda"], one.data.params["seed"]))
    values[launcher] = [one.data.metrics["val_data_loss"] for one in order]
    for other in values.values():
        assert other == pytest.approx(values[launcher], rel=1e-3)


def test_an_edited_model_is_trained_anew_and_its_own_error_is_shown(tmp_path: Path) -> None:
    """Launched again nothing is trained; after an edit all is, in processes of their own too."""
    example = shutil.copytree(EXAMPLE, tmp_path / "example")
    words = [*SWEEP, "training.epochs=1", "hydra/launcher=isolated", "hydra.launcher.n_jobs=2"]
    words.remove("training.epochs=30")

    def again() -> subprocess.CompletedProcess[str]:
        return run("train", tmp_path / "work", *words, conf=example / "conf")

    assert "0 of them settled before" in again().stderr
    assert "4 of them settled before" in again().stderr
    model = example / "conf" / "mine.py"
    body = '    raise ValueError("width of the wine")\n'
    model.write_text(model.read_text().replace("    x = inputs", f"{body}    x = inputs"))
    result = again()
    assert result.returncode == 1
    assert "0 of them settled before" in result.stderr
    error = "FAILED TargetError: mine.classifier raised ValueError: width of the wine"
    assert result.stderr.count(error) == 4
    assert "exit status" not in result.stderr


def test_a_preset_of_tune_works_with_the_same_config_folder(tmp_path: Path) -> None:
    """It is written beside the user's configs; the printed command trains it from any folder."""
    conf = shutil.copytree(EXAMPLE, tmp_path / "example") / "conf"
    result = run("tune", tmp_path / "work", "model=mine", "data=mine", "model.units=8",
                 "training.epochs=2", "tune.num_trials=2", conf=conf)  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert "on the test examples, which selected nothing: test accuracy" in result.stdout
    preset = conf / "experiment" / "tuned_wine_mine-classifier_half_l2_sgd.yaml"
    name = f"experiment={preset.stem}"
    command = f"python -m experiments.train --config-dir {conf} {name}"
    assert f"preset: {preset}\ntrain with it: {command}\n" in result.stdout
    assert "# On the test examples: test accuracy" in preset.read_text()
    result = run("train", tmp_path / "other", name, conf=conf)
    assert result.returncode == 0, result.stderr[-3000:]
    store = Store(f"sqlite:///{tmp_path / 'other' / 'store' / 'mlflow.db'}", "l2keras")
    [found] = runs_of(store)
    assert (found.data.params["model.units"], found.info.status) == ("8", "FINISHED")
    tuned = Store(f"sqlite:///{tmp_path / 'work' / 'store' / 'mlflow.db'}", "l2keras")
    trials = [one for one in runs_of(tuned) if "trial" in one.data.tags]
    losses = [one.data.metrics["val_data_loss"] for one in trials]
    assert len(losses) == 2
    assert found.data.metrics["val_data_loss"] == min(losses)


def test_a_comparison_of_the_methods_on_it(tmp_path: Path) -> None:
    """One's own model is compared as the built-in ones are: equal where it should be."""
    table = f"data.path={EXAMPLE / 'wine.csv'}"
    result = run("compare", tmp_path, "model=mine", "data=csv", table, "data.target=grower",
                 "compare.lams=[0.02]", "compare.arms=[builtin_l2,decoupled]",
                 "training.epochs=2", "tracking.log_model=false")  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert "wine, mine.classifier, sgd" in result.stdout
    assert (
        "WeightDecay decoupled: equal to HalfL2 at the same lambda, up to rounding" in result.stdout
    )
    assert "test value of the selected lambda is an unbiased estimate" in result.stdout
