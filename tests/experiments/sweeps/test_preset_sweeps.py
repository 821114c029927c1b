"""The presets that are sweeps: every job of theirs, composed and checked before anyone runs it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode

from l2keras_experiments.config import paths, schema
from l2keras_experiments.sweeps.sweep import Job
from tests.support.runs import Compose

FOLDER = paths.CONFIGS / "experiment"
SWEEPS = sorted(p.stem for p in FOLDER.glob("*.yaml") if "MULTIRUN" in p.read_text())
# Those of the fast tier: one sweep with flags, and several joined, with a baseline.
SOME = ["bias_and_norm", "coupled_adam"]
MOST = 250  # runs of one to two seconds: ten minutes on two cores hold so many

Jobs = Callable[..., Sequence[Job]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of each preset: with `--full` of all, else of some, as they have hundreds of jobs."""
    if "preset" in metafunc.fixturenames:
        metafunc.parametrize("preset", SWEEPS if metafunc.config.getoption("full") else SOME)


@pytest.fixture(scope="module")
def jobs_of(composed: Compose) -> Jobs:
    """The jobs of `experiments.train` with these overrides: composed and checked, not run."""
    loader = GlobalHydra.instance().config_loader()

    @functools.cache
    def jobs(*overrides: str) -> Sequence[Job]:
        # As the command does: what is swept is the sweeper's, and no part of the config.
        fixed = [override for override in overrides if "," not in override]
        config = loader.load_configuration("config", fixed, run_mode=RunMode.RUN)
        context = HydraContext(config_loader=loader, callbacks=Callbacks(config))
        sweeper: Any = Plugins.instance().instantiate_sweeper(  # ours, imported anew by Hydra
            hydra_context=context, task_function=lambda node: None, config=config
        )
        found: Sequence[Job] = sweeper.jobs(list(overrides))
        return found

    return jobs


def test_there_is_a_preset_for_each_question() -> None:
    """The questions of the README are presets that are sweeps."""
    assert SWEEPS == [
        "bias_and_norm", "coupled_adam", "coupled_momentum", "factor_of_two", "label_noise",
        "learning_rate_and_lambda", "sgd_equal", "timescale",
    ]  # fmt: skip


def test_every_job_of_a_preset(jobs_of: Jobs, preset: str) -> None:
    """Jobs are valid, each once, few enough, without a download, in a study of their own."""
    jobs = jobs_of(f"experiment={preset}")
    assert 10 <= len(jobs) <= MOST
    assert len({job.config_hash for job in jobs}) == len(jobs)
    assert {job.config.tracking.study for job in jobs} == {preset}
    assert {job.config.data.name for job in jobs} <= {"digits", "mnist5k"}
    assert not any(job.config.tracking.log_model for job in jobs)


def test_every_cell_has_its_seeds(jobs_of: Jobs, preset: str) -> None:
    """Each combination has the same five seeds; three where the file says why."""
    jobs = jobs_of(f"experiment={preset}")
    cells: dict[str, set[int]] = {}
    for job in jobs:
        tree = dataclasses.asdict(job.config)
        tree["seed"] = None
        if job.config.regularization.name == "none":
            tree["regularization"] = "none"
        cells.setdefault(str(tree), set()).add(job.config.seed)
    few = "Three seeds" in (FOLDER / f"{preset}.yaml").read_text()
    assert {frozenset(seeds) for seeds in cells.values()} == {frozenset(range(3 if few else 5))}


def test_the_header_names_what_varies(jobs_of: Jobs, preset: str) -> None:
    """Every key with more than one value is named as scientific or nuisance, none as fixed."""
    text = (FOLDER / f"{preset}.yaml").read_text()
    assert f"# Command: python -m experiments.train experiment={preset}\n" in text
    named = " ".join(text[text.index("# Scientific:") : text.index("Fixed:")].split())
    varying = set(schema.varying([job.config for job in jobs_of(f"experiment={preset}")]))
    assert {key for key in varying - {"seed"} if key not in named} == set()


def test_what_is_typed_goes_before_the_preset(jobs_of: Jobs) -> None:
    """A value, a sweep and a method on the command line take the place of the preset's."""
    assert len(jobs_of("experiment=sgd_equal", "seed=7")) == 17  # 4 methods of 4 lambdas, and none
    jobs = jobs_of("experiment=sgd_equal", "seed=7", "regularization.lam=0.5")
    assert {job.config.regularization.lam for job in jobs} == {0.5}
    jobs = jobs_of("experiment=sgd_equal", "seed=8,9", "regularization=coupled")
    assert {(job.config.seed, job.config.regularization.name) for job in jobs} == {
        (8, "coupled"), (9, "coupled"),
    }  # fmt: skip


def test_grids_are_joined(jobs_of: Jobs) -> None:
    """Each method has the lambdas of its own grid, and all have the same learning rates."""
    found: dict[str, set[float]] = {}
    rates: dict[str, set[float]] = {}
    for job in jobs_of("experiment=coupled_adam"):
        name = job.config.regularization.name
        found.setdefault(name, set()).add(job.config.regularization.lam)
        rates.setdefault(name, set()).add(job.config.optimizer.learning_rate)
    assert found["coupled"] == {0.001, 0.003, 0.01, 0.03}
    assert found["decoupled"] == {0.1, 0.3, 1.0, 3.0}
    assert rates["none"] == rates["coupled"] == rates["decoupled"] == {0.001, 0.003, 0.01}
    typed = jobs_of("experiment=coupled_adam", "regularization.lam=0.5", "seed=0")
    assert {job.config.regularization.lam for job in typed} == {0.5}  # in place of each grid's


def test_jobs_are_named_by_what_they_differ_in(jobs_of: Jobs) -> None:
    """Also the config that a job trains from says so; a sweep over seeds needs no more words."""
    jobs = jobs_of("model.depth=1,2", "regularization.lam=0.1,0.2")
    assert [job.label for job in jobs] == [
        f"HalfL2 lam={lam} eta=0.2 depth={depth} seed=0" for depth in (1, 2) for lam in (0.1, 0.2)
    ]
    assert {tuple(job.node.tracking.varied) for job in jobs} == {("model.depth",)}
    assert [job.label for job in jobs_of("seed=3,4")] == [
        f"HalfL2 lam=0.01 eta=0.2 seed={seed}" for seed in (3, 4)
    ]
