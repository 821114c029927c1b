"""The training command: runs, presets, and how it ends when it fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from l2keras_experiments.commands import validation
from l2keras_experiments.config import composition, flattening, paths
from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.runtime.outcome import DivergedError, Outcome
from l2keras_experiments.sweeps import completed, identity, job
from l2keras_experiments.sweeps.vectorized import jobs
from l2keras_experiments.tracking import recording
from l2keras_experiments.tracking.store import Store
from l2keras_experiments.training import trial
from tests.support import factorial
from tests.support.runs import SMALL, Compose, logged_model, runs_of

pytestmark = pytest.mark.usefixtures("eager_steps")

GROUPS = composition.default_found().groups()
PRESETS = sorted(path.stem for path in (paths.CONFIGS / "experiment").glob("*.yaml"))


def test_a_run_is_recorded(composed: Compose, uri: str, tmp_path: Path) -> None:
    """One run: parameters, metrics, the resolved config and a model that loads and predicts."""
    outcome = job.train(composed("config", f"tracking.uri={uri}", *SMALL))
    store = Store(uri, "l2keras")
    [run] = runs_of(store)
    assert run.info.status == "FINISHED"
    assert (outcome.status, outcome.run_id) == ("FINISHED", run.info.run_id)
    assert run.data.metrics["val_data_loss"] == outcome.metrics["val_data_loss"]
    assert not list((tmp_path / "store" / "state").rglob("*.*"))  # no checkpoint, no lock is left
    assert run.data.params["regularization.name"] == "half_l2"
    # 1 / (0.2 * 0.01) = 500 steps, of which 100 examples in batches of 32 make 4 an epoch
    assert float(run.data.params["timescale_epochs"]) == pytest.approx(500 / 3)
    assert "lam: 0.01" in Path(store.client.download_artifacts(run.info.run_id, "config.yaml")).read_text()  # fmt: skip  # noqa: E501  # one call
    model = keras.models.load_model(logged_model(store, run) / "data" / "model.keras")
    assert model.predict(np.zeros((2, 8, 8, 1), "float32"), verbose=0).shape == (2, 10)


def test_patterns_in_the_config_are_recorded(composed: Compose, uri: str) -> None:
    """As one parameter in the order of the config: MLflow's names hold no `*`."""
    node = composed("config", f"tracking.uri={uri}", "regularization=decoupled", *SMALL)
    node.regularization.scale = {"*output/kernel": 0.1, "*": 1.0}
    assert job.train(node).status == "FINISHED"
    [run] = runs_of(Store(uri, "l2keras"))
    assert run.info.status == "FINISHED"
    assert run.data.params["regularization.scale"] == "{'*output/kernel': 0.1, '*': 1.0}"
    assert job.train(node).status == "SKIPPED"


def test_what_was_edited_since_its_sweep_began_is_refused(
    composed: Compose, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python would train the module that it has loaded, under the hash of the edited one."""
    module, text = tmp_path / "edited_since_model.py", (
        "import keras\n"
        "def build(num_outputs):\n"
        "    return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(num_outputs)])\n"
    )  # fmt: skip
    module.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    nodes = [composed("config", f"tracking.uri={uri}", *SMALL, f"seed={seed}") for seed in (0, 1)]
    for node in nodes:
        node.model = {"_target_": "edited_since_model.build"}
        node.tracking.planned = identity.config_hash(flattening.flatten(node))
    assert job.train(nodes[0]).status == "FINISHED"
    module.write_text(text + "# edited\n")
    for node in nodes:
        with pytest.raises(ConfigError, match=r"Received: others, edited since\. Start the sweep"):
            job.train(node)
    assert jobs.train_at_once(nodes) == [None, None]
    [run] = runs_of(Store(uri, "l2keras"))
    assert run.data.tags["config_hash"] == nodes[0].tracking.planned
    assert "tracking.planned" not in run.data.params


def test_a_mistake_needs_no_traceback() -> None:
    """Any other error of a job that came to no run shows its own, that of a target too."""
    error = ConfigError("Wrong.")
    assert Outcome.of_error("a", "b", error).details is None
    error.__cause__ = ValueError("of the target")
    for shown in (error, error.__cause__):
        assert "ValueError: of the target" in str(Outcome.of_error("a", "b", shown).details)


def test_a_run_that_may_be_at_work_elsewhere_is_left_alone(composed: Compose, uri: str) -> None:
    """Unless a process on these disks has died over it: then it is gone on with."""
    node = composed("config", f"tracking.uri={uri}", *SMALL)
    store, told = Store(uri, "l2keras"), identity.config_hash(flattening.flatten(node))
    tags = {"kind": "trial", recording.HASH_TAG: told, "host": "another"}
    run = store.client.create_run(store.experiment_id, tags=tags)
    outcome = job.train(node)
    assert (outcome.status, outcome.run_id) == ("RUNNING", run.info.run_id)
    assert "at work on another" in str(outcome.failure)
    (store.folder / f"{completed.claim_name(store, told)}.lock").touch()
    outcome = job.train(node)
    assert (outcome.status, outcome.run_id) == ("FINISHED", run.info.run_id)
    assert job.train(node).status == "SKIPPED"


def test_the_digest_tells_what_was_decayed(composed: Compose, uri: str) -> None:
    """Two runs at one lambda are told apart by a tag where it is not the same decay."""
    methods = {"half_l2": 0.01, "builtin_l2": 0.005, "decoupled": 0.01}
    for method, lam in methods.items():
        overrides = [f"regularization={method}", f"regularization.lam={lam}", *SMALL]
        node = composed("config", f"tracking.uri={uri}", "tracking.log_model=false", *overrides)
        job.train(node)
    store = Store(uri, "l2keras")
    runs = {run.data.tags["method"]: run for run in runs_of(store)}
    digests = {method: run.data.tags["decay_digest"] for method, run in runs.items()}
    assert digests["HalfL2"] == digests["keras L2"] != digests["WeightDecay decoupled"]

    def artifact(name: str) -> str:
        run_id = runs["WeightDecay decoupled"].info.run_id
        return Path(store.client.download_artifacts(run_id, name)).read_text()

    assert f"digest {digests['WeightDecay decoupled']}" in artifact("decay_audit.txt")
    data = json.loads(artifact("decay_audit.json"))
    assert data["digest"] == digests["WeightDecay decoupled"]
    assert {row["lam"] for row in data["rows"]} == {0.0, 0.01}


def test_the_same_command_twice(composed: Compose, uri: str) -> None:
    """The same command twice gives the same metrics, to the last bit, if it is to be rerun."""
    neutral = [f"tracking.uri={uri}", "tracking.log_model=false", "rerun=all"]
    node = composed("config", *neutral, *SMALL)
    job.train(node)
    job.train(node)
    assert job.train(composed("config", *neutral[:2], *SMALL)).status == "SKIPPED"
    first, second = runs_of(Store(uri, "l2keras"))
    for run in (first, second):
        del run.data.metrics["seconds"]
    assert first.data.metrics == second.data.metrics


@pytest.mark.parametrize("preset", factorial.sample(PRESETS, 3))
def test_every_preset_runs(composed: Compose, uri: str, preset: str) -> None:
    """Each preset trains, and opens with its question, roles and command."""
    text = (paths.CONFIGS / "experiment" / f"{preset}.yaml").read_text()
    for word in ("# Question:", "# Scientific:", "Nuisance:", "Fixed:", "# Command: python -m"):
        assert word in text
    node = composed("config", f"experiment={preset}", f"tracking.uri={uri}", *SMALL)
    job.train(node)
    [run] = runs_of(Store(uri, node.tracking.study))
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize("group", sorted(set(GROUPS) - {"experiment"}))
def test_every_option_of_every_group_is_valid(
    composed: Compose, group: str, tmp_path: Path
) -> None:
    """Each option of each group composes to a config that passes every check."""
    beside = {"transformer": "data=digits_tokens", "gru": "data=imdb", "imdb": "model=gru",
              "digits_tokens": "model=transformer"}  # fmt: skip
    files = {"csv": ["data.target=b"], "npz": []}
    for option in files:
        (tmp_path / f"{option}.data").write_text("a,b\n1,2\n")
    for option in GROUPS[group]:
        others = [beside[option]] if option in beside else []
        if option in files:
            others = [f"data.path={tmp_path / option}.data", *files[option]]
        config = validation.typed(composed("config", f"{group}={option}", *others))
        if group in ("data", "model", "regularization"):  # of a file it is that of the file
            assert getattr(config, group).name == option


def test_a_failed_run_keeps_its_traceback(
    composed: Compose, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that raises in mid training is FAILED, with the traceback beside it."""

    def fail(self: Any, epoch: int, logs: Any = None) -> None:
        raise ArithmeticError("the loss is nan")

    monkeypatch.setattr("l2keras_experiments.training.trial.EpochRecorder.on_epoch_end", fail)
    with pytest.raises(ArithmeticError, match="the loss is nan"):
        job.train(composed("config", f"tracking.uri={uri}", *SMALL))
    store = Store(uri, "l2keras")
    [run] = runs_of(store)
    assert run.info.status == "FAILED"
    text = Path(store.client.download_artifacts(run.info.run_id, "traceback.txt")).read_text()
    assert "the loss is nan" in text


def test_a_model_that_does_not_fit_is_refused_before_a_run(
    composed: Compose, missing_uri: str
) -> None:
    """A transformer on images is refused, naming what fits, and leaves no run behind."""
    with pytest.raises(ConfigError, match="Choose among: linear, mlp, cnn, resnet"):
        job.train(composed("config", f"tracking.uri={missing_uri}", "model=transformer"))
    assert not Path(missing_uri.removeprefix("sqlite:///")).exists()


def test_a_nan_loss_is_a_failure(composed: Compose, uri: str) -> None:
    """A run that diverges is FAILED, says so, and keeps the metrics until then."""
    diverging = [*SMALL, "regularization.lam=1e6"]
    with pytest.raises(DivergedError, match="Choose a smaller"):
        job.train(composed("config", f"tracking.uri={uri}", *diverging))
    [run] = runs_of(Store(uri, "l2keras"))
    assert run.info.status == "FAILED"
    assert "`loss` must be finite. Received: nan after an epoch" in run.data.tags["failure"]
    assert np.isnan(run.data.metrics["loss"])


def test_a_loss_on_validation_that_is_infinite_is_a_failure() -> None:
    """Although the one on the training examples is finite."""
    recording.check_finite({"loss": 1.0, "val_data_loss": 1e30})
    recording.check_finite({"loss": 1.0})  # validation_freq=2
    with pytest.raises(DivergedError, match="`val_data_loss` must be finite"):
        recording.check_finite({"loss": 1.0, "val_data_loss": np.inf})


def test_a_failed_run_is_gone_on_with(
    composed: Compose, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failure the same command goes on in the same run, from the last epoch's state."""
    node = composed("config", f"tracking.uri={uri}", *SMALL, "training.epochs=3")
    epochs: list[int] = []
    original = trial.EpochRecorder.on_epoch_end

    def fail_once(self: Any, epoch: int, logs: Any = None) -> None:
        epochs.append(epoch)
        if epochs == [0, 1]:
            raise OSError("the disk is full")
        original(self, epoch, logs)

    monkeypatch.setattr("l2keras_experiments.training.trial.EpochRecorder.on_epoch_end", fail_once)
    with pytest.raises(OSError, match="disk"):
        job.train(node)
    outcome = job.train(node)
    assert epochs == [0, 1, 1, 2]
    store = Store(uri, "l2keras")
    [run] = runs_of(store)
    assert (run.info.status, run.info.run_id) == ("FINISHED", outcome.run_id)
    for key in ("loss", "val_accuracy", "weight_norm"):
        history = store.client.get_metric_history(run.info.run_id, key)
        assert [metric.step for metric in history] == [0, 1, 2]
