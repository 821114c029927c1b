"""One training run, or a sweep of them: `python -m experiments.train [overrides] [-m]`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments import cli, credentials, identity, progress, provenance, signals
from experiments.outcome import Outcome
from experiments.paths import CONFIGS
from experiments.schema import Config, run_label

if TYPE_CHECKING:
    from experiments.run import Run
    from experiments.tracking import Store
    from experiments.trial import TrialResult

METHOD_TAG = "method"


class DivergedError(ArithmeticError):
    """The loss is not a number any more, or infinite."""


def train(node: DictConfig) -> Outcome:
    """Trains as configured and records the run, unless that has been done already.

    Goes on with a run of the same config that was interrupted or failed.

    Raises:
        DivergedError: the loss is nan or infinite after an epoch.
    """
    config: Config = cli.typed(node)
    from experiments import device, ledger, tracking, upload

    in_sweep = config.tracking.parent is not None
    if config.tracking.parent is not None:
        tracking.check_parent(config.tracking.uri, config.tracking.parent)
    device_name = device.set_up(config)
    tracking.load_client()
    with device.spare_collector():  # MLflow's migrations make much to collect, and load more
        store = tracking.opened(config.tracking.uri, config.tracking.study, patient=in_sweep)
    if not in_sweep:  # a sweep has done so
        upload.send_pending(store)
    told, label = identity.config_hash(cli.flatten(node)), run_label(config)
    try:
        with identity.claim(store.folder, ledger.claim_name(store, told)) as died:
            entries = ledger.find(store, [told])[told]
            done = ledger.settled(entries, config.rerun, label, claimed=died)
            resume = ledger.resumable(entries, config.rerun)
            return done or _train(store, node, config, device_name, told, resume)
    except identity.Busy:
        done = ledger.settled(ledger.find(store, [told])[told], config.rerun, label)
        busy = Outcome(label, told, "RUNNING", failure="another process is at work on it")
        return done or busy


def _train(
    store: Store, node: DictConfig, config: Config, device_name: str, told: str, resume: str | None
) -> Outcome:
    from experiments import checkpoint
    from experiments.data import load_data

    label = run_label(config)
    tags = run_tags(config, told)
    shown = config.training.progress
    with (
        store.run(label, parent=config.tracking.parent, tags=tags, resume=resume) as run,
        progress.fit(config.training.epochs, label, shown) as advance,
    ):
        kept = checkpoint.path_of(store.folder, run.id)
        data = load_data(config.data, config.seed, config.training.dtype.value)

        def on_metrics(metrics: dict[str, float]) -> None:
            advance(metrics)
            if not math.isfinite(metrics["loss"]):
                raise DivergedError(f"the loss is {metrics['loss']} after an epoch")

        result = record_trial(
            run, node, config, data, device_name, on_metrics, checkpoint_path=kept
        )
    checkpoint.remove(store.folder, run.id)
    last = {key: values[-1] for key, values in result.history.items()}
    return Outcome(label, told, "FINISHED", run_id=run.id, metrics=last, seconds=result.seconds)


def run_tags(config: Config, config_hash: str) -> dict[str, str]:
    """What a training run is found by."""
    from experiments import ledger

    return {
        "kind": "trial",
        METHOD_TAG: config.regularization.name,
        ledger.HASH_TAG: config_hash,
    }


def record_trial(
    run: Run,
    node: DictConfig,
    config: Config,
    data: Any,
    device_name: str,
    advance: Any,
    **kept: Any,
) -> TrialResult:
    """Runs one trial inside an MLflow run: parameters and decay first, then metrics, then files."""
    from experiments.trial import run_trial

    record_start(run, node, config, device_name)

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        run.log_metrics(metrics, step=epoch)
        advance(metrics)

    result = run_trial(config, data, on_epoch=on_epoch, on_report=run.log_decay, **kept)
    record_result(
        run,
        config,
        lam=result.effective_lam,
        updates=result.steps_per_epoch / config.training.gradient_accumulation_steps,
        seconds=result.seconds,
        model=result.model if config.tracking.log_model else None,
    )
    return result


def record_start(run: Run, node: DictConfig, config: Config, device_name: str) -> None:
    """What is known of a run before it trains."""
    node = cli.recorded(node)
    run.log_params({**cli.flatten(node), **provenance.versions(), "device_name": device_name})
    run.log_text(OmegaConf.to_yaml(node, resolve=True), "config.yaml")
    run.set_tags({METHOD_TAG: config.regularization.name})


def record_result(
    run: Run, config: Config, *, lam: float, updates: float, seconds: float, model: Any
) -> None:
    """What is known of a run when it has trained; `updates` are those of an epoch."""
    run.log_params(lambda_params(lam))
    run.log_params(timescale_params(lam, config, updates))
    run.log_metrics({"seconds": seconds}, step=config.training.epochs - 1)
    if model is not None:
        run.log_model(model)


def lambda_params(lam: float) -> dict[str, float]:
    """`lambda` in the half convention, to 7 digits, and its logarithm for linear axes."""
    lam = float(f"{lam:.7g}")
    return {"lambda": lam, **({"log10_lambda": math.log10(lam)} if lam > 0 else {})}


def timescale_params(lam: float, config: Config, updates: float) -> dict[str, float]:
    """Over how many epochs of so many `updates` decay at the peak rate averages the weights."""
    import l2keras

    rate = config.optimizer.learning_rate
    if not 0 < lam * rate <= 1:  # no decay, or every step changes the sign
        return {}
    steps = l2keras.timescale(lam, steps_per_epoch=1, learning_rate=rate)
    return {"timescale_epochs": float(f"{steps / updates:.7g}")}


def job(node: DictConfig) -> Outcome:
    """One job of Hydra's. In a sweep its failure is an outcome like any other."""
    from experiments.tracking import store_uri, ui_command

    signals.check()
    credentials.mask_output()  # in the processes of launchers, too
    if HydraConfig.get().mode == RunMode.RUN:
        outcome = train(node)
        print(f"study {node.tracking.study!r}: {ui_command(store_uri(node.tracking.uri))}")
    else:
        try:
            outcome = train(node)
        except (Exception, SystemExit) as error:
            told = identity.config_hash(cli.flatten(node))
            outcome = Outcome.of_error(run_label(cli.typed(node)), told, error)
    progress.show(outcome)
    return outcome


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
def _main(node: DictConfig) -> Any:
    return cli.task(job, node)


if __name__ == "__main__":
    cli.run(_main, Config, "train")
