"""One training run, or a multirun: `python -m experiments.train [overrides] [-m]`."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf

from experiments import cli
from experiments.schema import Config

if TYPE_CHECKING:
    from experiments.tracking import Run
    from experiments.trial import TrialResult

METHOD_TAG = "method"


def train(node: DictConfig) -> float:
    """Trains as configured, records the run, prints its result; returns the final data loss."""
    config: Config = cli.typed(node)

    from experiments import device
    from experiments.tracking import Store, ui_command

    device_name = device.set_up(config)
    from experiments import progress
    from experiments.data import load_data

    data = load_data(config.data, config.seed, config.training.dtype.value)
    store = Store(config.tracking.uri, config.tracking.study)
    label = f"{config.regularization.name} lam={config.regularization.lam:g} seed={config.seed}"
    with (
        store.run(label) as run,
        progress.bar(config.training.epochs, label, config.training.progress) as advance,
    ):
        result = record_trial(run, node, config, data, device_name, advance)
    print(f"{label}: {progress.summary(result.history)}  ({result.seconds:.1f} s)")
    print(f"recorded in study {config.tracking.study!r} of {store.uri}: {ui_command(store.uri)}")
    return result.history["val_data_loss"][-1]


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

    run.log_params({**cli.flatten(node), **versions(), "device_name": device_name})
    run.log_text(OmegaConf.to_yaml(node, resolve=True), "config.yaml")
    run.set_tags({METHOD_TAG: config.regularization.name})

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        run.log_metrics(metrics, step=epoch)
        advance(metrics)

    result = run_trial(config, data, on_epoch=on_epoch, on_report=run.log_decay, **kept)
    run.log_params(lambda_params(result.effective_lam))
    run.log_metrics({"seconds": result.seconds}, step=config.training.epochs - 1)
    if config.tracking.log_model:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            result.model.save(path)
            run.log_file(path)
    return result


def lambda_params(lam: float) -> dict[str, float]:
    """`lambda` in the half convention, to 7 digits, and its logarithm for linear axes."""
    lam = float(f"{lam:.7g}")
    return {"lambda": lam, **({"log10_lambda": math.log10(lam)} if lam > 0 else {})}


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    import importlib.metadata
    import platform

    import keras

    backend = keras.backend.backend()
    names = ["l2keras", "keras", "numpy", backend]
    found = {}
    for name in names:
        try:
            found[f"version.{name}"] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[f"version.{name}"] = "not installed as a package"
    return {**found, "version.python": platform.python_version(), "running_backend": backend}


@hydra.main(version_base="1.3", config_path="../configs", config_name="config")
def _main(node: DictConfig) -> Any:
    return cli.task(train, node)


if __name__ == "__main__":
    cli.register("train", Config, "experiments.train")
    cli.run(_main, Config)
