"""One job: a training run, alone or of a sweep, unless the store has it already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from l2keras_experiments.commands import validation
from l2keras_experiments.config import credentials, flattening, loading
from l2keras_experiments.config.schema import Config, run_label, run_name
from l2keras_experiments.data.streams import load_any
from l2keras_experiments.reports import views
from l2keras_experiments.runtime import device, progress, signals
from l2keras_experiments.runtime.outcome import Outcome
from l2keras_experiments.sweeps import completed, identity, rehearsal
from l2keras_experiments.tracking import upload
from l2keras_experiments.tracking.recording import check_finite, record_trial, run_tags
from l2keras_experiments.tracking.store import Store, check_parent, load_client, opened, ui_command
from l2keras_experiments.training.selection import selection_of

if TYPE_CHECKING:
    from l2keras_experiments.training.trial import Rehearsed


def train(node: DictConfig) -> Outcome:
    """Trains as configured and records the run, unless that has been done already.

    Goes on with a run of the same config that was interrupted or failed.

    Raises:
        ConfigError: its modules or files were edited since its sweep began; or the data or the
            model shows a mistake: outside a sweep before the store is opened.
        DivergedError: a loss is nan or infinite after an epoch.
    """
    config: Config = validation.typed(node)

    in_sweep = config.tracking.parent is not None
    if config.tracking.parent is not None:
        check_parent(config.tracking.uri, config.tracking.parent)
    device_name = device.set_up(config)
    rehearsed = None if in_sweep else rehearsal.rehearsed(config)
    load_client()
    with device.spare_collector():  # MLflow's migrations make much to collect, and load more
        store = opened(config.tracking.uri, config.tracking.study, patient=in_sweep)
    if not in_sweep:  # a sweep has done so
        upload.send_pending(store)
    told, label = identity.config_hash(flattening.flatten(node)), run_label(config)
    identity.check_planned(config, told)
    try:
        with identity.claim(store.folder, completed.claim_name(store, told)) as died:
            entries = completed.find(store, [told])[told]
            done = completed.settled(entries, config.rerun, label, claimed=died)
            if done:
                return done
            resume = completed.resumable(entries, config.rerun)
            if resume is None:
                completed.replace_interrupted(store, entries, config.rerun, label)
            return _train(store, node, config, device_name, told, resume, rehearsed)
    except identity.Busy:
        done = completed.settled(completed.find(store, [told])[told], config.rerun, label)
        busy = Outcome(label, told, "RUNNING", failure="another process is at work on it")
        return done or busy


def _train(
    store: Store,
    node: DictConfig,
    config: Config,
    device_name: str,
    told: str,
    resume: str | None,
    rehearsed: Rehearsed | None,
) -> Outcome:
    from l2keras_experiments.training import checkpoint

    label = run_label(config)
    tags = run_tags(config, told)
    shown = config.training.progress
    with (
        store.run(
            run_name(config),
            parent=config.tracking.parent,
            tags=tags,
            resume=resume,
            system_metrics=config.tracking.system_metrics,
        ) as run,
        progress.fit(config.training.epochs, label, shown, config.training.selection) as advance,
    ):
        kept = checkpoint.path_of(store.folder, run.id)
        if rehearsed is not None:
            data = rehearsed.data
        else:
            data = load_any(config.data, config.seed, config.training.dtype.value)

        def on_metrics(metrics: dict[str, float]) -> None:
            advance(metrics)
            check_finite(metrics)

        result = record_trial(
            run,
            node,
            config,
            data,
            device_name,
            on_metrics,
            checkpoint_path=kept,
            rehearsed=rehearsed,
        )
    checkpoint.remove(store.folder, run.id)
    last = {key: values[-1] for key, values in result.history.items()} | result.test
    return Outcome(
        label,
        told,
        "FINISHED",
        run_id=run.id,
        metrics=last,
        seconds=result.seconds,
        selection=config.training.selection,
    )


def job(node: DictConfig) -> Outcome:
    """One job of Hydra's. In a sweep its failure is an outcome like any other."""

    signals.check()
    credentials.mask_output()  # in the processes of launchers, too
    loading.enter(HydraConfig.get().runtime)
    if HydraConfig.get().mode == RunMode.RUN:
        outcome = train(node)
        store = opened(node.tracking.uri, node.tracking.study)
        selection = selection_of(validation.typed(node).training, outcome.metrics)
        views.save(store, views.STUDY, views.of_study(selection))
        print(f"study {store.study!r} of {store.uri}")
        print(f"MLflow UI: {ui_command(store.uri)}")
        views.show(store, views.STUDY)
    else:
        try:
            outcome = train(node)
        except (Exception, SystemExit) as error:
            config = validation.typed(node)
            told = config.tracking.planned or identity.config_hash(flattening.flatten(node))
            outcome = Outcome.of_error(run_label(config), told, error)
    progress.show(outcome)
    return outcome
