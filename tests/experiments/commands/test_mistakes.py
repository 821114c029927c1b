"""Every mistake in what a command is given ends in one line, with status 2 and no file left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import answer, check_mistake, contained


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the runs of these commands would go."""
    with pytest.MonkeyPatch.context() as patch:
        yield contained(patch, tmp_path_factory.mktemp("mistakes"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("seed=${seed}", "seed: Recursive interpolation"),
        ("tracking.study=${oc.env:NOPE}", "tracking.study: KeyError.*'NOPE' not found"),
        ("data.num_train=${tracking.study}", "data.num_train` must be a whole number or null"),
        ("tracking.study=${nosuch:1}", "tracking.study: Unsupported interpolation type nosuch"),
        ("seed=0,1", "need a sweep. Received: seed=0,1"),
        ("seed=" + "9" * 5000, r"Received: seed=9+\.\.\.9+ .*4300 digits"),
        ("seed=4294967296", "from 0 to 2"),
        ("training.epochs=2147483648", "at most 2147483647. Received: training.epochs=2147483648"),
        ("tracking.study=" + "a" * 201, "at most 200 bytes.*Received: 201 bytes"),
        ("tracking.parent=a.b", "tracking.parent` must be the id"),
        ("tracking.uri=nowhere", "Received: nowhere"),
        ("tracking.uri=http://host:port/", "must be the address of a server"),
        ("tracking.uri='sqlite:////tmp/a%20b.db'", "and SQLAlchemy reads"),
        ("tracking.uri='sqlite:////tmp/a?b=c'", "and SQLAlchemy reads"),
        ("tracking.uri=sqlite:////tmp", "which is a folder"),
        ("tracking.uri=sqlite:////proc/x/y.db", "which cannot be made"),
        ("hydra.run.dir=/proc/x/y", "`hydra.run.dir` must be a folder that can be written"),
        ("hydra.run.dir=${nope}", "hydra.run.dir: Interpolation key 'nope' not found"),
        ("data.name=http://u:p@h", "`data.name` must hold no password.*http://[*]{3}@h"),
        ("hydra.mode=7", "hydra.mode: Invalid value '7'"),
        ("hydra.run.dir=''", "`hydra.run.dir` must be a folder.*Received: .*an empty text"),
        ("-m hydra.sweep.dir=''", "`hydra.sweep.dir` must be a folder.*Received: .*an empty text"),
        ("hydra.verbose=nope", "names of loggers, .*Received: hydra.verbose=nope"),
        ("hydra.verbose=[hydra,nope.x]", "names of loggers"),
        ("hydra.verbose=7", "names of loggers"),
        ("hydra.verbose={a:b}", "names of loggers"),
        ("hydra.launcher.n_jobs=0 hydra/launcher=isolated", "from 1, or -1.*n_jobs=0"),
        (
            "-m hydra.launcher.n_jobs=-7 hydra/launcher=isolated seed=0,1",
            "from 1, or -1.*n_jobs=-7",
        ),
        ("-m hydra.launcher.n_jobs=0 hydra/launcher=joblib seed=0,1", "from 1, or -1.*n_jobs=0"),
        ("-m hydra.launcher.n_jobs=1.5 hydra/launcher=isolated", "from 1, or -1.*n_jobs=1.5"),
        ("-m hydra.sweeper.max_batch_size=0 seed=0,1", "from 1, or null.*max_batch_size=0"),
        ("-m hydra.sweeper.max_batch_size=-1 seed=0,1", "from 1, or null.*max_batch_size=-1"),
        ("-m hydra.sweeper.params={nope:[1,2]}", "no such key. Received: nope=1,2"),
        ("regularization.lam=1e308", "`regularization.lam` must be finite in float32"),
        ("regularization.lam=3.5e38", "`regularization.lam` must be finite in float32"),
        ("optimizer.learning_rate=1e39", "positive and finite in float32"),
        (
            "tracking.uri=databricks",
            "needs an account for databricks. Received: databricks, without",
        ),
        ("tracking.uri=databricks://name", "needs an account for databricks"),
        ("hydra.searchpath=[file:///nope]", "/nope is not available"),
        ("hydra/launcher=nope", "no such option. Received: hydra/launcher=nope"),
        ("hydra/nope=nope", "no such group. Received: hydra/nope=nope"),
        ("~seed", "cannot be taken out. Received: ~seed"),
        ("--config-dir /nope", "--config-dir must be a folder.*Received: /nope"),
        ("--config-name nope", "Cannot find primary config 'nope'"),
        ("--nope", "Received: unrecognized arguments: --nope"),
        ("--cfg job -m", "Only one of"),
        ("--cfg job --package nope", "--package must name a part"),
        ("tracking.parent=abc", "must be a run of the store. Received: tracking.parent=abc"),
        ("-m seed=range(0,3,0)", r"a step that is not 0. Received: seed=range\(0,3,0\)"),
        ("-m seed=range(0,inf)", "finite bounds"),
        ("-m seed=range(1000000000)", "at most 10000 values.*which are 1000000000"),
        ("-m seed=range(200) data.num_train=range(1,200)", "at most 10000 runs.*39800 runs"),
        ("-m seed=1,range(3)", "no sweeps themselves. Received"),
        ("-m seed=choice()", "empty choice"),
        ("-m data=glob(z*)", r"No option matches. Received: data=glob\(z\*\)"),
        ("-m hydra.mode=RUN,MULTIRUN", "one value for all runs"),
        ("-m hydra.sweeper.params=7", "hydra.sweeper.params` must be keys.*Received: 7"),
        ("-m hydra.sweeper.grids=7", "hydra.sweeper.grids` must be a list.*Received: 7"),
        ("-m hydra.sweeper.params={sed:[0,1]}", "Received: sed=0,1. Did you mean seed"),
        ("-m tracking.parent=abc seed=0,1", "Received: tracking.parent=abc. Leave it out"),
    ],
)
def test_of_train(arguments: str, told: str, runs: Path) -> None:
    """Flags, overrides and sweeps: what was expected and what came."""
    given = answer("train", arguments.split())
    check_mistake(given, runs)
    assert re.search(told, given.err), given.err


@pytest.mark.parametrize(
    ("command", "arguments", "told"),
    [
        ("compare", "-m seed=0,1", "no sweep. Received: seed=0,1"),
        ("compare", "experiment=sgd_equal", "hydra.mode=RUN to a preset that sweeps"),
        ("tune", "-m", "no sweep. Received: hydra.mode=MULTIRUN"),
        ("ui", "--host=", "--host, or MLFLOW_HOST, must be an address. Received: an empty text"),
        ("ui", "--backend-store-uri=sqlite:////tmp", "which is a folder"),
        ("compare", "compare.arms=[nope]", "Received: 'nope'"),
        ("tune", "tune.storage=sqlite:////tmp", "which is a folder"),
        ("tune", "tune.storage=http://host", "must be the URL of a database"),
        ("tune", "tune.preset=" + "a" * 300, "up to 200 letters"),
        ("report", "--parent a'b", "--parent` must be the id of an MLflow run"),
        ("report", "--output /proc/x", "--output must be a folder that can be written"),
        ("report", "--uri sqlite:////tmp", "which is a folder"),
        ("report", "--nope", "unrecognized arguments: --nope"),
        ("check_grad", "--nope", "unrecognized arguments: --nope"),
        ("upload", "", "arguments are required: FILE"),
        ("ui", "--port abc", "MLFLOW_PORT, must be a number"),
    ],
)
def test_of_the_other_commands(command: str, arguments: str, told: str, runs: Path) -> None:
    """Each command answers its own flags and those of Hydra alike."""
    given = answer(command, arguments.split())
    check_mistake(given, runs)
    assert told in given.err


def test_where_hydra_writes_nothing_new_is_left(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that was there before, under names of the user's, and the user's stay."""
    monkeypatch.chdir(tmp_path)
    own_files = [tmp_path / "meta" / "mine.txt", tmp_path / "train.log"]
    own_files[0].parent.mkdir()
    for file in own_files:
        file.write_text("mine")
    names = "hydra.job_logging.handlers.file.filename=${hydra.runtime.output_dir}/other.txt"
    for arguments in (["hydra.output_subdir=meta"], [names], []):
        given = answer("train", ["tracking.parent=abc", "hydra.run.dir=.", *arguments])
        check_mistake(given, runs)
        assert "must be a run of the store" in given.err
        assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == own_files
        assert not (tmp_path / ".hydra").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: [digits", "ParserError: .*mine.yaml"),
        ("_target_: [digits]", r"`data._target_` must be module.function. Received: \['digits'"),
        ("name: digits", "`data._target_` must be module.function. Received: None"),
        ("num_train: [1]", "`data.num_train` must be a whole number or null"),
        ("_target_: l2keras_experiments.data.sources.digits\nnme: 1", "must have keys.*data.nme=1"),
        ("_target_: nowhere.load", "no module nowhere. Pass --config-dir"),
        ("- digits", "In 'data/mine'"),
        ("7", "Invalid loaded object type: int"),
        ('name: "a\\0b"', "without control characters"),
        ("name: &a [*a]", "it refers to itself"),
        ("defaults:\n- mine", "it refers to itself"),
        ("defaults:\n- nope", "Could not load 'data/nope'"),
        ("name: ${nope}", "data.name: Interpolation key 'nope' not found"),
        ("name: digits\nname: mnist", "found duplicate key name"),
        ("name: !!python/name:os.system", "could not determine a constructor"),
    ],
)
def test_of_a_config_file(text: str, told: str, runs: Path, tmp_path: Path) -> None:
    """A file that cannot be read or does not have the types of the schema is told in one line."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text(text)
    given = answer("train", ["--config-dir", str(tmp_path), "data=mine", "--cfg", "job"])
    check_mistake(given, runs)
    assert re.search(told, given.err), given.err


def test_a_password_in_a_file_is_refused(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra writes its own part of the config as it is: the environment keeps the password."""
    (tmp_path / "experiment").mkdir()
    preset = tmp_path / "experiment" / "mine.yaml"
    begin = "# @package _global_\nhydra: {sweeper: {params: {seed: [0], tracking.uri: '"
    preset.write_text(begin + "http://bob:hunter2@h'}}}")
    arguments = ["--config-dir", str(tmp_path), "experiment=mine"]
    given = answer("train", ["-m", *arguments])
    check_mistake(given, runs)
    assert "`hydra.sweeper.params.tracking.uri` must hold no password" in given.err
    assert "hunter2" not in given.err
    preset.write_text(begin + "${oc.env:STORE}'}}}")
    monkeypatch.setenv("STORE", "http://bob:hunter2@h")
    given = answer("train", [*arguments, "tracking.study=${oc.env:STORE}", "--cfg", "all"])
    assert (given.status, given.err) == (0, "")
    assert "${oc.env:STORE}" in given.out
    assert "hunter2" not in given.out


@pytest.mark.parametrize(
    "text",
    [
        "sweeper: {params: {+hydra.job.env_set.DB_TOKEN: [hunter2]}}",
        "sweeper: {grids: [{seed: 0, +hydra.job.env_set: '{DB_TOKEN:hunter2}'}]}",
        "launcher: {setup: ['export DB_TOKEN=hunter2']}",
    ],
)
def test_a_variable_of_jobs_in_a_file_is_refused(text: str, runs: Path, tmp_path: Path) -> None:
    """A password in what a preset sweeps over, or in a command of the launcher."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\nhydra: {{{text}}}")
    words = ["-m", "--config-dir", str(tmp_path), "experiment=mine"]
    given = answer("train", [*words, "hydra/launcher=submitit_slurm"])
    check_mistake(given, runs)
    assert "environment variable" in given.err
    assert "hunter2" not in given.err


@pytest.mark.parametrize("way", ["file", "env_copy"])
def test_a_variable_of_jobs_is_in_no_config(
    way: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A preset's env_set, and what env_copy copies, become variables of this process at once."""
    monkeypatch.setenv("DB_TOKEN", "hunter2")
    words = ["+hydra.job.env_copy=[DB_TOKEN]"]
    if way == "file":
        (tmp_path / "experiment").mkdir()
        preset = tmp_path / "experiment" / "mine.yaml"
        preset.write_text("# @package _global_\nhydra: {job: {env_set: {DB_TOKEN: hunter2}}}")
        words = ["--config-dir", str(tmp_path), "experiment=mine"]
    given = answer("train", [*words, "--cfg", "all"])
    assert (given.status, given.err) == (0, "")
    assert "hunter2" not in given.out


def test_numbers_and_loggers_of_hydra_pass(runs: Path) -> None:
    """What Hydra's documentation has."""
    joblib = ["hydra.launcher.n_jobs=-1", "hydra/launcher=joblib", "hydra.sweeper.max_batch_size=1"]
    for words in (
        ["-m", *joblib],
        ["hydra.verbose=[hydra,__main__]", "--cfg", "job"],
        ["hydra.verbose=mlflow.store", "regularization.lam=3.4e38", "--cfg", "job"],
    ):
        given = answer("train", words)
        assert (given.status, given.err) == (0, ""), words


@pytest.mark.parametrize("way", ["--config-dir", "hydra.searchpath"])
def test_what_hydra_finds_is_an_option(way: str, tmp_path: Path, runs: Path) -> None:
    """An option of a folder of the user's is one in either way, in any order of the arguments."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text(
        "_target_: l2keras_experiments.data.sources.mnist5k\nnum_train: 77\n"
    )
    where = ["--config-dir", str(tmp_path)]
    if way == "hydra.searchpath":
        where = [f"hydra.searchpath=[file://{tmp_path}]"]
    given = answer("train", ["data=mine", *where, "seed=3", "--cfg", "job"])
    assert (given.status, given.err) == (0, "")
    assert "num_train: 77" in given.out
    assert "seed: 3" in given.out


@pytest.mark.parametrize(
    ("variable", "content"),
    [("MLFLOW_TRACKING_URI", "nowhere"), ("KERAS_BACKEND", "cntk")],
)
def test_of_the_shell(
    variable: str, content: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that nothing can be done with is named."""
    monkeypatch.setenv(variable, content)
    given = answer("train", [])
    check_mistake(given, runs)
    assert variable in given.err
    assert f"Received: {content}" in given.err


def test_an_unexpected_error_tells_where_its_traceback_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What no one foresaw is one line with status 1; the file has all of it but passwords."""
    from l2keras_experiments.reports import report

    def fail() -> None:
        raise ZeroDivisionError("at postgresql://me:secret@host/db\nand more")

    monkeypatch.setattr(report, "main", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    given = answer("report", [])
    [file] = tmp_path.iterdir()
    assert given.status == 1
    assert given.err.startswith("error: ZeroDivisionError: at postgresql://me:***@host/db and more")
    assert given.err.count("\n") == 1
    assert str(file) in given.err
    assert "in fail" in file.read_text()
    assert "secret" not in file.read_text()
