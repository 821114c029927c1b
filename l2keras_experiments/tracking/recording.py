"""What a training run records: its config, its metrics, what it decays, what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from l2keras_experiments.config import flattening, methods
from l2keras_experiments.config.schema import Config, open_groups, run_label
from l2keras_experiments.data.datasets import Dataset
from l2keras_experiments.data.description import describe
from l2keras_experiments.data.streams import StreamDataset
from l2keras_experiments.runtime.outcome import DivergedError
from l2keras_experiments.tracking import provenance
from l2keras_experiments.tracking.run import Run
from l2keras_experiments.training.selection import higher_is_better

if TYPE_CHECKING:
    from l2keras_experiments.training.trial import TrialResult

METHOD_TAG = "method"
HASH_TAG = "config_hash"
RESUMABLE_TAG = "resumable"  # "false": after an interruption a new run takes its place
# Metrics that are tags, too: MLflow shows a metric with all its digits.
SHOWN = {"val_accuracy": ".4f", "test_accuracy": ".4f", "val_data_loss": "#.5g",
         "test_data_loss": "#.5g", "data_loss": "#.5g", "penalty": "#.5g",
         "weight_norm": "#.5g"}  # fmt: skip


def check_finite(metrics: Mapping[str, float]) -> None:
    """Raises DivergedError where an epoch ends with a loss that is not finite."""
    for key in ("loss", "val_data_loss"):
        value = metrics.get(key, 0.0)
        if not math.isfinite(value):
            raise DivergedError(
                f"`{key}` must be finite. Received: {value} after an epoch. "
                "Choose a smaller optimizer.learning_rate or regularization.lam; "
                "for a table set data.standardize=true, too."
            )


def run_tags(config: Config, config_hash: str) -> dict[str, str]:
    """What a training run is found by."""
    return {
        "kind": "trial",
        "label": run_label(config),
        **method_tags(config.regularization.name),
        HASH_TAG: config_hash,
    }


def method_tags(name: str) -> dict[str, str]:
    """A method for people: its label, and its colour in MLflow's charts."""
    color = {"mlflow.runColor": methods.COLORS[name]} if name in methods.COLORS else {}
    return {METHOD_TAG: methods.label(name), **color}


def record_trial(
    run: Run,
    node: DictConfig,
    config: Config,
    data: Dataset | StreamDataset,
    device_name: str,
    advance: Any,
    **kept: Any,
) -> TrialResult:
    """Runs one trial inside an MLflow run: parameters and decay first, then metrics, then files."""
    from l2keras_experiments.training.trial import run_trial

    record_start(run, node, config, device_name, data)

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        run.log_metrics(metrics, step=epoch)
        advance(metrics)

    def on_restored(epochs: int, metrics: dict[str, float]) -> None:
        run.log_metrics(metrics, step=epochs)

    result = run_trial(
        config,
        data,
        on_epoch=on_epoch,
        on_restored=on_restored,
        on_report=run.log_decay,
        **kept,
    )
    record_result(
        run,
        config,
        lam=result.effective_lam,
        updates=result.steps_per_epoch / config.training.gradient_accumulation_steps,
        seconds=result.seconds,
        last={key: values[-1] for key, values in result.history.items()},
        test=result.test,
        model=result.model if config.tracking.log_model else None,
        data=data,
    )
    return result


def record_start(
    run: Run,
    node: DictConfig,
    config: Config,
    device_name: str,
    data: Dataset | StreamDataset,
) -> None:
    """What is known of a run before it trains."""
    node = flattening.recorded(node)
    names = {f"{group}.name": getattr(config, group).name for group in open_groups(type(config))}
    about = {**names, **_selection(config), **provenance.versions(), "device_name": device_name}
    run.log_params({**flattening.flatten(node), **about})
    run.log_text(OmegaConf.to_yaml(node, resolve=True), "config.yaml")
    if isinstance(data, StreamDataset):
        run.set_tags({RESUMABLE_TAG: "false"})
    run.log_inputs(describe(data, config.data))


def _selection(config: Config) -> dict[str, str]:
    """In which direction `training.selection` improves, for reports; nothing without any."""

    metric = config.training.selection
    if metric is None:
        return {}
    return {"selection_mode": "max" if higher_is_better(config.training, metric) else "min"}


def record_result(
    run: Run,
    config: Config,
    *,
    lam: float,
    updates: float,
    seconds: float,
    last: Mapping[str, float],
    test: Mapping[str, float],
    model: Any,
    data: Dataset | StreamDataset,
) -> None:
    """What is known of a run when it has trained.

    Args:
        run: Of the record.
        config: Of the run.
        lam: lambda in the half convention.
        updates: Of the weights in an epoch.
        seconds: Of training.
        last: Metrics of the last epoch.
        test: Metrics on the test examples.
        model: The trained model, or None to record none.
        data: What it was trained on.
    """
    run.log_params(lambda_params(lam))
    run.log_params(timescale_params(lam, config, updates))
    run.log_metrics({**test, "seconds": seconds}, step=config.training.epochs - 1)
    chosen = config.training.selection or "val_data_loss"
    own = dict.fromkeys((chosen, chosen.replace("val_", "test_", 1)), "#.5g")
    shown = own | SHOWN
    run.set_tags({k: format(v, shown[k]) for k, v in {**last, **test}.items() if k in shown})
    if model is not None:
        run.log_model(model, data.sample_inputs)


def lambda_params(lam: float) -> dict[str, str]:
    """`lambda` in the half convention, to 7 digits, and its logarithm for linear axes."""
    shown = f"{lam:.7g}"
    return {"lambda": shown, **({"log10_lambda": f"{math.log10(lam):.7g}"} if lam > 0 else {})}


def timescale_params(lam: float, config: Config, updates: float) -> dict[str, float]:
    """Over how many epochs of so many `updates` decay at the peak rate averages the weights."""
    import l2keras

    rate = config.optimizer.learning_rate
    if not 0 < lam * rate <= 1:  # no decay, or every step changes the sign
        return {}
    steps = l2keras.timescale(lam, steps_per_epoch=1, learning_rate=rate)
    return {"timescale_epochs": float(f"{steps / updates:.7g}")}
