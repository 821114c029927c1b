"""The command, end to end on a real store: pages, files, the parent, the terminal, mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from l2keras_experiments.config import paths
from l2keras_experiments.reports import report
from l2keras_experiments.reports.records import StudyError
from l2keras_experiments.tracking.store import Store
from tests.support.commands import answer
from tests.support.runs import Compose, runs_of
from tests.support.synthetic import Trial, seeds

pytestmark = pytest.mark.usefixtures("eager_steps")

TRIALS = [
    *seeds(Trial("half_l2", 0.1), [0.70, 0.80, 0.90]),
    *seeds(Trial("decoupled", 0.1), [0.61, 0.70, 0.79]),
]


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store


@pytest.fixture
def parent(store: Store) -> str:
    """A sweep of six finished runs and a failed one; its first run finished in an earlier sweep."""
    TRIALS[0].store(store)
    with store.run("sweep", tags={"kind": "sweep", "sweep_command": "make the sweep"}) as run:
        for trial in TRIALS[1:]:
            trial.store(store, run.id)
        failed = Trial(seed=9, status="FAILED", tags={"failure": "ValueError: nan"})
        failed.store(store, run.id)
    return run.id


def test_a_sweep_reports_on_its_parent(store: Store, parent: str, tmp_path: Path) -> None:
    """The parent gets metrics, page, figures and table, of runs that it skipped too."""
    hashes = [trial.config_hash for trial in TRIALS]
    written = report.write(store, parent, hashes, tmp_path / "out")
    run = store.client.get_run(parent)
    assert run.data.metrics["HalfL2.best_val_accuracy"] == pytest.approx(0.8)
    assert run.data.metrics["HalfL2.ci95_half_width"] == pytest.approx(0.24841, abs=1e-5)
    assert run.data.metrics["WeightDecay decoupled.best_lambda"] == 0.1
    files = {file.path for file in store.client.list_artifacts(parent, "report")}
    assert {"report/report.html", "report/isolation.svg", "report/isolation.png",
            "report/differences.svg", "report/curves.png"} <= files  # fmt: skip
    table = json.loads(
        Path(store.client.download_artifacts(parent, "leaderboard.json")).read_text("utf-8")
    )
    assert table["data"][0][1:6] == ["HalfL2", "0.1", "0.5", "3", "0.80 ± 0.25"]
    assert len(table["columns"]) == len(table["data"][0])
    html = written.page.read_text("utf-8")
    assert html.count("make the sweep") == 1
    assert f"python -m experiments.report {store.study} --parent {parent}" in html
    assert "significant difference" in html
    assert "ValueError: nan" in html


def test_a_sweep_is_read_again_with_what_it_skipped(
    store: Store, parent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command alone finds the sweep, its members and its study, and prints the results."""
    report.write(store, parent, [trial.config_hash for trial in TRIALS], tmp_path / "first")
    Trial("coupled", 0.3, accuracy=0.99).store(store)  # of no sweep
    assert report.main(["--uri", store.uri, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "HalfL2 is 0.100 ± 0.025 better than WeightDecay decoupled over 3 seeds" in printed
    assert "missing: half_l2 0.1: FAILED, ValueError: nan" in printed
    assert "0.99" not in printed
    assert str(tmp_path / "out" / "report.html") in printed
    assert (tmp_path / "out" / "curves.svg").exists()


def test_a_study_without_one_sweep_is_read_whole(
    store: Store, parent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With two sweeps all runs of the study are shown, unless one of the sweeps is asked for."""
    with store.run("another", tags={"kind": "sweep"}) as other:
        Trial("coupled", 0.3, accuracy=0.99).store(store, other.id)
    arguments = [store.study, "--uri", store.uri, "--output", str(tmp_path)]
    assert report.main([*arguments, "--csv"]) == 0
    printed = capsys.readouterr().out
    table = tmp_path / "runs.csv"
    assert f"csv: {table}\n" in printed
    ids = {line.partition(",")[0] for line in table.read_text("utf-8").splitlines()[1:]}
    assert ids == {
        run.info.run_id
        for run in runs_of(store)
        if run.info.status == "FINISHED" and run.data.tags["kind"] == "trial"
    }
    assert "All training runs of the study. It has 2 sweeps; for one of them:\n" in printed
    assert f"  --parent {other.id}    another\n  --parent {parent}    sweep\n" in printed
    assert "WeightDecay coupled has the highest mean" in printed
    assert "HalfL2 reaches 0.80 ± 0.25" in printed
    assert report.main(["--uri", store.uri, "--output", str(tmp_path), "--parent", other.id]) == 0
    printed = capsys.readouterr().out
    assert "HalfL2" not in printed
    assert f"logged to the MLflow run {other.id} of study {store.study!r}" in printed


def test_trials_of_a_search_are_left_out(store: Store, parent: str, tmp_path: Path) -> None:
    """A search's trials have a table of their own; without other runs the report is of them."""
    best = {"best.regularization.lam": "0.3", "num_trials": "1"}
    with store.run("tune HalfL2", tags={"kind": "tuning", **best}) as search:
        Trial("coupled", 0.3, accuracy=0.99).store(store, search.id)
    written = report.write(store, None, None, tmp_path)
    assert {run.method for run in written.study.runs} == {"half_l2", "decoupled"}
    html = written.page.read_text("utf-8")
    assert "<td>tune HalfL2</td><td>1</td><td>0.3</td>" in html
    assert "do not contain them" in html


def test_a_study_of_a_search_alone(store: Store, tmp_path: Path) -> None:
    """The results are of the trials, and the page says so."""
    with store.run("tune", tags={"kind": "tuning"}) as search:
        Trial("coupled", 0.3, accuracy=0.99).store(store, search.id)
    written = report.write(store, None, None, tmp_path)
    assert [run.method for run in written.study.runs] == ["coupled"]
    assert "are of these trials only" in written.page.read_text("utf-8")


def test_the_default_folder(store: Store) -> None:
    """Without --output the page is in report/<study>/ beside the store."""
    Trial().store(store)
    assert report.main([store.study, "--uri", store.uri]) == 0
    database = Path(store.uri.removeprefix("sqlite:///"))
    assert (database.parent / "report" / store.study / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["studdy"], "error: There is no such study"),
        (["Default"], "error: A report needs training runs"),
        (["Default", "--parent", "nonsense"], "error: The parent must be a run of the study"),
    ],
)
def test_mistakes_are_one_line(store: Store, arguments: list[str], message: str) -> None:
    """An unknown study, an empty one and an unknown parent end in one line and status 2."""
    printed = answer("report", [*arguments, "--uri", store.uri])
    assert printed.status == 2
    assert printed.err.startswith(message)
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_help_tells_every_argument(capsys: pytest.CaptureFixture[str]) -> None:
    """--help names the study, the store, the parent and the folder with their defaults."""
    with pytest.raises(SystemExit) as stopped:
        report.main(["--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    for word in ("study", "--uri", "--parent", "--output", "95 %", "report/<study>/"):
        assert word in printed


def test_real_training_is_reported(composed: Compose, store: Store, tmp_path: Path) -> None:
    """Two seeds of real runs, written by the training command, make a page with curves."""
    from l2keras_experiments.sweeps import job

    for seed in (0, 1):
        overrides = [f"seed={seed}", "data.num_train=100", "model.width=8", "training.epochs=2"]
        where = [
            f"tracking.uri={store.uri}",
            f"tracking.study={store.study}",
            "tracking.log_model=false",
        ]
        job.train(composed("config", *overrides, *where))
    written = report.write(store, None, None, tmp_path)
    [cell] = written.study.settings[0].cells
    assert (cell.method, cell.lam, list(cell.runs)) == ("half_l2", 0.01, [0, 1])
    html = written.page.read_text("utf-8")
    assert ", the range of two seeds," in html
    assert 'aria-label="Losses, penalty and norm over the epochs"' in html


def test_reporting_imports_no_backend() -> None:
    """A report needs neither TensorFlow nor Keras, and says --help at once without MLflow."""
    program = (
        "import sys; from l2keras_experiments.reports import report; report.parser().format_help();"
        "print([m for m in ('tensorflow', 'keras', 'jax', 'torch', 'mlflow') if m in sys.modules])"
    )
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, cwd=paths.PROJECT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_an_empty_store_has_nothing_to_report(store: Store, tmp_path: Path) -> None:
    """A sweep without a training run raises, with what makes some."""
    with (
        store.run("sweep", tags={"kind": "sweep"}) as parent,
        pytest.raises(StudyError, match=r"python -m experiments\.train -m"),
    ):
        report.write(store, parent.id, [], tmp_path)
