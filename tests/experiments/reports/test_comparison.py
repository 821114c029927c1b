"""The main job, end to end on a small scale: real data, real training, a real store."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from l2keras_experiments.config import paths
from l2keras_experiments.reports.comparison import launch
from l2keras_experiments.tracking.store import Store
from tests.support import factorial
from tests.support.runs import SMALL, Compose, logged_model, runs_of

pytestmark = pytest.mark.usefixtures("eager_steps")

SMALL_GRID = ["compare.lams=[0.05,0.1]", *SMALL, "data.label_noise=0"]
# Two steps an epoch, of which two epochs have to learn something.
SGD = ["training.batch_size=50", "model.width=32", "tracking.log_model=false"]


@dataclass
class Compared:
    """What one comparison left behind."""

    store: Store
    parent: Any
    children: dict[str, Any]
    printed: str
    page: str

    def verdict(self, label: str) -> str:
        return str(self.children[label].data.tags["verdict"])

    def artifact(self, name: str) -> str:
        client = self.store.client
        return Path(client.download_artifacts(self.parent.info.run_id, name)).read_text()


def run_compare(composed: Compose, uri: str, *overrides: str) -> Compared:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        node = composed("compare", f"tracking.uri={uri}", *SMALL_GRID, *overrides)
        launch.compare(node)
    store = Store(uri, "l2keras")
    [parent] = [r for r in runs_of(store) if r.data.tags.get("kind") == "comparison"]
    children = {r.data.tags["label"]: r for r in runs_of(store, parent)}
    beside = store.folder.parent
    [data] = beside.glob("report/l2keras/comparison-*.json")
    assert len(json.loads(data.read_text())) == len(children)
    [file] = beside.glob("report/l2keras/comparison-*.html")  # none overwrites another's
    assert file.stem == f"comparison-{parent.info.run_id[:8]}"
    page = file.read_text(encoding="utf-8")
    return Compared(store, parent, children, printed.getvalue(), page)


@pytest.fixture(scope="module")
def sgd(composed: Compose, eager_steps: None, shared_uri: str) -> Compared:
    return run_compare(composed, shared_uri, *SGD)


def test_under_sgd_everything_coincides(sgd: Compared) -> None:
    """Under SGD all arms equal HalfL2, but for the built-in as pasted, which is twice lambda."""
    assert sgd.verdict("WeightDecay decoupled 0.1") == "equal up to rounding"
    assert sgd.verdict("WeightDecay coupled 0.1").startswith("equal ")
    assert sgd.verdict("keras L2 halved 0.05").startswith("equal ")
    assert sgd.verdict("keras weight_decay 0.1").startswith("equal ")
    assert sgd.verdict("keras L2 0.1") == "equal to lambda = 0.2: twice the number written"
    assert sgd.verdict("keras L2 0.05") == "equal to lambda = 0.1: twice the number written"
    distance = sgd.children["WeightDecay decoupled 0.1"].data.metrics["distance"]
    assert 0 < distance < 1e-12  # another way to compute it, and float64
    assert sgd.children["keras L2 0.1"].data.metrics["distance"] > 1e-3


def test_every_arm_is_a_complete_child_run(sgd: Compared) -> None:
    """Each arm is a FINISHED child with its config, metrics of each epoch, lambda and files."""
    # none, HalfL2 at 0.05, 0.1 and 0.2, and five other arms at two lambdas
    assert len(sgd.children) == 1 + 3 + 5 * 2
    for run in sgd.children.values():
        assert run.info.status == "FINISHED"
        files = {f.path for f in sgd.store.client.list_artifacts(run.info.run_id)}
        assert "config.yaml" in files
        for metric in ("data_loss", "penalty", "val_data_loss", "val_accuracy", "weight_norm",
                       "learning_rate", "decay_per_step"):  # fmt: skip
            history = sgd.store.client.get_metric_history(run.info.run_id, metric)
            assert [m.step for m in history] == [0, 1], metric
    params = sgd.children["keras L2 0.1"].data.params
    assert float(params["regularization.lam"]) == pytest.approx(0.1)
    assert params["lambda"] == "0.2"
    assert float(params["log10_lambda"]) == pytest.approx(math.log10(0.2))
    assert params["device_name"] == "cpu"
    assert params["version.keras"]
    assert sgd.children["keras L2 0.1"].data.tags["git_commit"]
    assert "log10_lambda" not in sgd.children["none"].data.params


def test_the_parent_carries_table_figures_and_page(sgd: Compared) -> None:
    """The parent run has summary metrics, the table, the three figures and the page."""
    files = {f.path for f in sgd.store.client.list_artifacts(sgd.parent.info.run_id)}
    assert {
        "comparison.json", "comparison.html", "config.yaml", "accuracy_over_lambda.svg",
        "distance_over_steps.svg", "norm_over_steps.svg",
    } <= files  # fmt: skip
    assert sgd.parent.data.metrics["HalfL2.best_score"] > 0.2
    assert sgd.parent.data.metrics["WeightDecay decoupled.largest_distance"] < 1e-12
    table = json.loads(sgd.artifact("comparison.json"))
    assert table["columns"][0] == "method"
    assert len(table["data"]) == len(sgd.children)
    assert sgd.artifact("comparison.html") == sgd.page


def test_the_page_stands_alone(sgd: Compared) -> None:
    """The page links to nothing outside itself and shows every arm and three figures."""
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"|<!DOCTYPE[^>]*>', "", sgd.page)
    assert not re.search(r'(src|href)="(?!#)', without_namespaces)
    assert sgd.page.count("<svg") == 6  # wide and narrow
    for title in ("keras L2 halved", "HalfL2", "WeightDecay decoupled"):
        assert f"<td>{title}</td>" in sgd.page


def test_validation_selects_and_test_is_named_so(sgd: Compared) -> None:
    """The figure's axis and the sentence are of validation; test stands beside it, by its name."""
    best = max(
        (run for label, run in sgd.children.items() if label in ("HalfL2 0.05", "HalfL2 0.1")),
        key=lambda run: (run.data.metrics["val_accuracy"], float(run.data.params["lambda"])),
    ).data
    shown = (
        f"HalfL2 has its best validation accuracy at lambda = {float(best.params['lambda']):g}: "
        f"{best.metrics['val_accuracy']:.3f} (test: {best.metrics['test_accuracy']:.3f})"
    )
    for where in (sgd.page.replace("&#39;", "'"), sgd.printed):
        assert shown in where
        assert "test value of the selected lambda is an unbiased estimate" in where
    figure = sgd.artifact("accuracy_over_lambda.svg")
    assert "<!-- validation accuracy -->" in figure
    assert "<!-- test accuracy at the best lambda -->" in figure
    assert "<!-- test accuracy -->" not in figure


def test_the_terminal_shows_table_page_and_ui(sgd: Compared) -> None:
    """The command ends with the table, the sentences, the page's path and how to open the UI."""
    assert "WeightDecay coupled" in sgd.printed
    assert "equal to HalfL2 at twice the number written" in sgd.printed
    assert f"comparison-{sgd.parent.info.run_id[:8]}.html" in sgd.printed
    assert re.search("MLFLOW_TRACKING_URI=sqlite:///.* -m experiments.ui", sgd.printed)
    assert str(paths.RUNS / "mlflow.db") not in sgd.printed


@pytest.mark.parametrize("preset", factorial.sample(["adam", "momentum"], 1))
def test_under_momentum_and_adam_decoupled_parts(composed: Compose, uri: str, preset: str) -> None:
    """With momentum and Adam coupled still equals HalfL2; decoupled and Keras' own part.

    Every arm has its model.
    """
    arms = "compare.arms=[builtin_l2,builtin_half,decoupled,coupled,optimizer_weight_decay]"
    same = [arms, "data.num_train=64", "compare.lams=[0.1]"]
    found = run_compare(composed, uri, f"experiment={preset}", *same)
    assert found.verdict("WeightDecay coupled 0.1").startswith("equal ")
    assert found.verdict("keras L2 halved 0.05").startswith("equal ")
    assert found.verdict("keras L2 0.1").startswith("equal to lambda = 0.2")
    for label in ("WeightDecay decoupled 0.1", "keras weight_decay 0.1"):
        assert found.verdict(label).startswith("different: ")
    for run in found.children.values():
        files = {f.path for f in found.store.client.list_artifacts(run.info.run_id)}
        assert "config.yaml" in files
        assert logged_model(found.store, run)
    # Keras' own weight decay is the decoupled one.
    decoupled, own = (
        found.children[label].data.metrics["val_data_loss"]
        for label in ("WeightDecay decoupled 0.1", "keras weight_decay 0.1")
    )
    assert own == pytest.approx(decoupled, rel=1e-12)


def test_an_arm_that_fails_is_recorded(
    composed: Compose, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An arm that raises is FAILED with its traceback, and so is the comparison; none is lost."""
    monkeypatch.setattr(launch, "judge", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        launch.compare(composed("compare", f"tracking.uri={uri}", *SMALL_GRID))
    child, parent = runs_of(Store(uri, "l2keras"))
    assert [child.info.status, parent.info.status] == ["FAILED", "FAILED"]
    assert "val_accuracy" in child.data.metrics
